"""A domain, checked and indexed: what every room asks when it meets a name."""

from __future__ import annotations

import difflib
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import msgspec
import xxhash

from feature_repo import domain as real_estate
from feature_repo.declare import (
    ANY,
    Aggregate,
    Derived,
    Entity,
    EventType,
    Feature,
    Field,
    Input,
    Last,
    Node,
    Service,
    Signal,
    Strength,
    Trait,
    TraitChanged,
    TraitValue,
    View,
)
from feature_repo.layout import field

_PERSON = Entity(name="user", join_key="user_id", description="a person")  # where a domain names no entity
_TELLS = {"number": ("number", "integer"), "text": ("text",), "date": ()}  # which fields can tell such a trait
COLUMNS = ("event_timestamp", "created")  # of rows for Feast's offline store, besides the join key and the features
_OWNER = "telltale"
_TTL_DAYS = 3  # of the flow's view: everybody is refreshed once a day, so an older value means that nobody does
REQUEST = "request"  # `request:input` names what only a request gives, so no view may be called so
KEEP_DAYS = 90  # tiles kept; a longer window cannot be declared
UNKNOWN = 0xFFFF  # code of an event that the vocabulary does not name
PUSHED = 0xFFFD  # code of a person's features from outside: touches no window, yet the person is scored again
SILENT = 0xFFFE  # code of a call that is stored and touches no window: identify, page, group...


class VocabularyError(ValueError):
    """A domain that cannot run; `errors` lists all that is wrong with it."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__("; ".join(errors))
        self.errors = errors


class Code(msgspec.Struct, frozen=True):
    """What one number in the log stands for: an event type and, where counted apart, its tag."""

    event: str
    tag: str | None


class Vocabulary:
    """Events, traits, features, signals, services and views of one domain, with their numbers.

    `view` names the flow's view, `entity` and `join_key` whose it is; `views` holds it and the external ones.
    `inputs`: what only a request gives, by `request:name`.
    `codes[i]` is what event code `i` in the log means; `fingerprint` names this numbering.
    """

    def __init__(self, module: ModuleType = real_estate) -> None:
        self.events: tuple[EventType, ...] = tuple(module.EVENTS)
        self.traits: tuple[Trait, ...] = tuple(getattr(module, "TRAITS", ()))
        self.features: tuple[Feature, ...] = tuple(module.FEATURES)
        self.signals: tuple[Signal, ...] = tuple(getattr(module, "SIGNALS", ()))
        self.services: tuple[Service, ...] = tuple(getattr(module, "SERVICES", ()))
        self.view: str = getattr(module, "VIEW", "user_features")
        self.entities: tuple[Entity, ...] = tuple(getattr(module, "ENTITIES", ())) or (_PERSON,)
        self.entity, self.join_key = self.entities[0].name, self.entities[0].join_key
        self.external: tuple[View, ...] = tuple(getattr(module, "VIEWS", ()))
        self.views = {view.name: view for view in (self._flow_view(module), *self.external)}
        self.given: tuple[Input, ...] = tuple(getattr(module, "INPUTS", ()))
        self.inputs = {f"{REQUEST}:{given.name}": given for given in self.given}
        if found := errors(self):
            raise VocabularyError(found)
        self.codes = tuple(Code(e.name, tag) for e in self.events for tag in (None, *e.tags))
        self.code = {(c.event, c.tag): i for i, c in enumerate(self.codes)}
        self.trait_id = {trait.name: i for i, trait in enumerate(self.traits)}
        self.feature_index = {feature.name: i for i, feature in enumerate(self.features)}
        self.event = {event.name: event for event in self.events}
        self._named = {spelled(s): e for e in self.events for s in (e.name, *e.segment)}

    def _flow_view(self, module: ModuleType) -> View:
        return View(
            name=self.view,
            entity=self.entity,
            fields=tuple(
                Field(name=f.name, description=f.description, unit=f.unit, default=f.default) for f in self.features
            ),
            description=f"what the stream knows of a {self.entity}",
            owner=getattr(module, "OWNER", _OWNER),
            ttl_days=getattr(module, "TTL_DAYS", _TTL_DAYS),
            external=False,
        )

    def entity_of(self, view: View) -> Entity:
        return next(entity for entity in self.entities if entity.name == view.entity)

    def resolve(self, reference: str) -> tuple[View, Field] | None:
        """The view and field that `feature` (of the flow's view) or `view:feature` names."""
        view_name, _, name = reference.rpartition(":")
        view = self.views.get(view_name or self.view)
        found = next((f for f in view.fields if f.name == name), None) if view else None
        return (view, found) if view and found else None

    def stored(self, service: Service) -> tuple[str, ...]:
        """The service's inputs that a view holds, in order: all but those that only a request gives."""
        return tuple(name for name in service.features if name not in self.inputs)

    def default(self, reference: str) -> float:
        """What stands for a model's input, in training and in answers, while it is not known. Raises KeyError."""
        if found := self.resolve(reference):
            return found[1].default
        return self.inputs[reference].default

    @property
    def codebook(self) -> bytes:
        """The numbering as JSON, kept in the store so that entries written under it stay readable."""
        return msgspec.json.encode({"codes": self.codes, "traits": [t.name for t in self.traits]})

    @property
    def fingerprint(self) -> int:
        """32 bits over the codebook."""
        return xxhash.xxh32_intdigest(self.codebook)

    def named(self, name: str) -> EventType | None:
        """The event type of a Segment "Object Action" or snake_case name, however it is spelled."""
        return self._named.get(name) or self._named.get(spelled(name))

    @property
    def spellings(self) -> dict[str, str]:
        """Every name of an event type, as `spelled` has it -> the type's name."""
        return {name: event.name for name, event in self._named.items()}

    def nearest(self, name: str) -> str | None:
        """The known event name that an unknown one most resembles."""
        found = difflib.get_close_matches(spelled(name), self._named, n=1, cutoff=0.5)
        return self._named[found[0]].name if found else None

    def members(self, events: tuple[str, ...]) -> tuple[str, ...]:
        """Event names, with ANY spelled out."""
        if events == ANY:
            return tuple(e.name for e in self.events if e.role == "behaviour" and e.by_person)
        return events


def spelled(name: str) -> str:
    """One spelling of "Document Viewed", "document_viewed", "documentViewed"."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return re.sub(r"[^a-z0-9]+", "_", apart.lower()).strip("_")


def load(directory: str = "") -> Vocabulary:
    """The domain in `directory`/domain.py; the one that ships when empty. Raises VocabularyError."""
    if not directory:
        return Vocabulary()
    path = Path(directory) / "domain.py"
    spec = importlib.util.spec_from_file_location("telltale_domain", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise VocabularyError([f"TELLTALE_FEATURE_REPO={directory}: expected a file domain.py in it, found none"])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return Vocabulary(module)


def errors(v: Vocabulary) -> list[str]:
    """All that is wrong with a domain, each in one line."""
    return [*_duplicates(v), *_names(v), *_views(v), *_collisions(v), *_references(v), *_windows(v), *_services(v)]


def nodes(node: Node, v: Vocabulary) -> list[Node]:
    """A node and all that it is made of, inputs first."""
    if isinstance(node, Derived):
        return [n for i in node.inputs for n in nodes(i, v)] + [node]
    if isinstance(node, Strength):
        evidence = next((s.evidence for s in v.signals if s.name == node.signal), {})
        return [*evidence.values(), node]
    return [node]


def _all_nodes(v: Vocabulary) -> list[tuple[str, Node]]:
    found = [(f"feature {f.name}", n) for f in v.features for n in nodes(f.of, v)]
    return found + [(f"signal {s.name}", n) for s in v.signals for n in s.evidence.values()]


def _duplicates(v: Vocabulary) -> list[str]:
    lists = {
        "event": [e.name for e in v.events],
        "trait": [t.name for t in v.traits],
        "feature": [f.name for f in v.features],
        "signal": [s.name for s in v.signals],
        "service": [s.name for s in v.services],
        "entity": [e.name for e in v.entities],
        "join key": [e.join_key for e in v.entities],
        "view": [v.view, *(view.name for view in v.external)],
        "input": [i.name for i in v.given],
    } | {f"view {view.name}, field": [f.name for f in view.fields] for view in v.external}
    found = []
    for kind, names in lists.items():
        found += [f"{kind} {n} is declared {names.count(n)} times" for n in dict.fromkeys(names) if names.count(n) > 1]
    return found


def _names(v: Vocabulary) -> list[str]:
    """What Feast could not tell apart: `view:feature`, `view__feature`, and the columns of its offline store."""
    views = [(view, f"view {view.name}") for view in v.views.values()]
    named = [*((view.name, where) for view, where in views), *((e.name, f"entity {e.name}") for e in v.entities)]
    named += [(f.name, f"{where}: {f.name}") for view, where in views for f in view.fields]
    named += [(s.name, f"service {s.name}") for s in v.services]
    named += [(i.name, f"input {i.name}") for i in v.given]
    odd = [where for name, where in named if not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII) or "__" in name]
    found = [f"{where}: expected a name of letters, digits and single _" for where in odd]
    keys = {e.name: e.join_key for e in v.entities}
    for view, where in views:
        taken = {keys.get(view.entity), *COLUMNS}
        clash = [f.name for f in view.fields if f.name in taken]
        found += [f"{where}: {name} is a column of its rows, name the feature otherwise" for name in clash]
    return found


def _views(v: Vocabulary) -> list[str]:
    entities, traits = {e.name for e in v.entities}, {t.name: t for t in v.traits}
    found = [f"view {w.name}: no entity {w.entity}" for w in v.external if w.entity not in entities]
    found += [f"view {REQUEST}: so is named what a request gives, name it otherwise" for w in v.views if w == REQUEST]
    found += [f"view {w.name}: its ttl is {w.ttl_days} days, expected 1 or more" for w in v.external if w.ttl_days < 1]
    for view in v.external:
        for told in (f for f in view.fields if f.trait):
            where = f"view {view.name}: {told.name} tells the trait {told.trait}"
            if view.entity != v.entity:
                found.append(f"{where}, but is no view of the {v.entity}")
            elif told.trait not in traits:
                found.append(f"{where}, which is not declared")
            elif told.kind not in _TELLS[traits[told.trait].kind]:
                found.append(f"{where}, which is a {traits[told.trait].kind}, and is a {told.kind}")
    return found


def _collisions(v: Vocabulary) -> list[str]:
    """One hash holds all views of an entity, so their fields must differ between them too."""
    seen: dict[tuple[str, bytes], str] = {}
    found = []
    for view in v.views.values():
        for name in dict.fromkeys(f.name for f in view.fields):
            reference = f"{view.name}:{name}"
            other = seen.setdefault((view.entity, field(view.name, name)), reference)
            if other != reference:
                found.append(f"features {other} and {reference} share Feast's 4-byte field: rename one")
    return found


def _references(v: Vocabulary) -> list[str]:
    events = {e.name: e for e in v.events}
    traits, signals = {t.name for t in v.traits}, {s.name for s in v.signals}
    found = []
    for where, node in _all_nodes(v):
        if isinstance(node, Aggregate | Last) and node.events != ANY:
            missing = [n for n in node.events if n not in events]
            found += [f"{where}: no event type {n}" for n in missing]
            if node.tag and not missing and any(node.tag not in events[n].tags for n in node.events):
                found.append(f"{where}: tag {node.tag} is not declared by {', '.join(node.events)}")
        if isinstance(node, Aggregate | Last) and any(events[n].role == "outcome" for n in node.events if n in events):
            found.append(f"{where}: an outcome is a label, never a feature: {', '.join(node.events)}")
        if isinstance(node, TraitValue | TraitChanged) and node.name not in traits:
            found.append(f"{where}: no trait {node.name}")
        if isinstance(node, Strength) and node.signal not in signals:
            found.append(f"{where}: no signal {node.signal}")
    return list(dict.fromkeys(found))


def _windows(v: Vocabulary) -> list[str]:
    found = []
    for where, node in _all_nodes(v):
        if isinstance(node, Aggregate) and not (0 < node.days <= KEEP_DAYS or 0 < node.hours <= 24):
            found.append(f"{where}: a window is 1-24 hours or 1-{KEEP_DAYS} days, got {node.days} d {node.hours} h")
    return list(dict.fromkeys(found))


def _services(v: Vocabulary) -> list[str]:
    found = [f"service {s.name}: no feature {n}" for s in v.services for n in v.stored(s) if v.resolve(n) is None]
    for service in v.services:
        full = [f"{p[0].name}:{p[1].name}" for p in map(v.resolve, v.stored(service)) if p]
        full += [n for n in service.features if n in v.inputs]
        twice = [n for n in dict.fromkeys(full) if full.count(n) > 1]
        found += [f"service {service.name}: lists {n} more than once" for n in twice]
    for service in v.services:
        found += [
            f"service {service.name}: {n} is telling, but no input"
            for n in service.telling
            if n not in service.features
        ]
    for service in (s for s in v.services if s.alert):
        outside = [n for n in service.features if n not in {f.name for f in v.features}]
        outside = [n for n in outside if n in v.inputs or v.resolve(n)]
        found += [f"service {service.name}: an alert is scored in the stream, which has no {n}" for n in outside]
    return found
