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
    Derived,
    Entity,
    EventType,
    Feature,
    Field,
    Input,
    Node,
    Service,
    Signal,
    Strength,
    Trait,
    View,
)

_PERSON = Entity(name="user", join_key="user_id", description="a person")  # where a domain names no entity
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
    `sources`: 64 bits over the domain's files, as they were when it was loaded.
    `codes[i]` is what event code `i` in the log means; `fingerprint` names this numbering.
    """

    def __init__(self, module: ModuleType = real_estate) -> None:
        file: str | None = getattr(module, "__file__", None)
        self.sources = sources(Path(file).parent) if file else 0
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
        from feature_repo.faults import errors  # which looks at vocabularies

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


def sources(*directories: Path) -> int:
    """64 bits over the Python files that lie in them now."""
    found = xxhash.xxh3_64()
    for file in sorted(file for directory in directories for file in directory.glob("*.py")):
        found.update(file.read_bytes())
    return found.intdigest()


def nodes(node: Node, v: Vocabulary) -> list[Node]:
    """A node and all that it is made of, inputs first."""
    if isinstance(node, Derived):
        return [n for i in node.inputs for n in nodes(i, v)] + [node]
    if isinstance(node, Strength):
        evidence = next((s.evidence for s in v.signals if s.name == node.signal), {})
        return [*evidence.values(), node]
    return [node]
