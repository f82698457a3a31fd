"""All that can be wrong with a domain, each in one line: what `telltale features check` says."""

from __future__ import annotations

import re

from feature_repo.declare import ANY, Aggregate, Last, Node, Strength, TraitChanged, TraitValue
from feature_repo.layout import field
from feature_repo.traits import MOST
from feature_repo.vocabulary import COLUMNS, KEEP_DAYS, REQUEST, Vocabulary, nodes

_TELLS = {"number": ("number", "integer"), "text": ("text",), "date": ()}  # which fields can tell such a trait


def errors(v: Vocabulary) -> list[str]:
    """All that is wrong with a domain, each in one line."""
    found = [*_duplicates(v), *_names(v), *_views(v), *_collisions(v), *_defaults(v)]
    return [*found, *_references(v), *_windows(v), *_services(v)]


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


def _defaults(v: Vocabulary) -> list[str]:
    """A model takes 32-bit floats, and no NaN."""
    stand = [(f"view {w.name}: {f.name}", f.default) for w in v.views.values() for f in w.fields]
    stand += [(f"input {i.name}", i.default) for i in v.given]
    return [f"{where}: its default is {of}, expected a finite number" for where, of in stand if not abs(of) <= MOST]


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
