"""What `feast apply` registers: Feast's objects, derived from the vocabulary. The one file that imports Feast.

Run in this directory, `feast apply` imports this file and registers what it finds in it. Another domain's directory
has a `feature_store.yaml` like ours and a `feast_objects.py` of two lines:

    from feature_repo.feast_objects import registered
    globals().update(registered(__file__))
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from datetime import timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

from feast import Entity, FeatureService, FeatureView, Field, FileSource, Project, PushSource, ValueType
from feast.aggregation import Aggregation
from feast.data_format import ParquetFormat
from feast.stream_feature_view import StreamFeatureView
from feast.types import Float64, Int64, String

from feature_repo import declare, training_sets
from feature_repo.layout import PROJECT
from feature_repo.vocabulary import Vocabulary, VocabularyError, load

_TYPES = {"number": Float64, "integer": Int64, "text": String}


def registered(file: str, domain: str = "") -> dict[str, Any]:
    """All objects of the domain beside `file` (or in the directory `domain`), by names for `globals()`.

    Their rows lie in TELLTALE_HOME, taken from the directory above `file`'s where it is relative. On a domain that
    cannot run: ends the process with one line an error.
    """
    here = Path(file).resolve().parent
    try:
        vocabulary = load(domain or str(here))
    except VocabularyError as error:
        sys.exit("\n".join([f"{len(error.errors)} errors in the declarations:", *error.errors]))
    home = here.parent / os.environ.get("TELLTALE_HOME", ".telltale")
    return {f"registered_{i}": one for i, one in enumerate(objects(vocabulary, home))}


def objects(v: Vocabulary, home: Path) -> list[Any]:
    """The project, and each entity, view (with its sources) and service of the vocabulary; rows under `home`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # Feast calls stream views experimental
        entities = {entity.name: _entity(entity) for entity in v.entities}
        views = {view.name: _view(v, view, entities[view.entity], home) for view in v.views.values()}
        services = [_service(v, service, views) for service in v.services]
    return [Project(name=PROJECT, description="what Telltale knows"), *entities.values(), *views.values(), *services]


def _entity(entity: declare.Entity) -> Entity:
    return Entity(
        name=entity.name,
        join_keys=[entity.join_key],
        value_type=ValueType.STRING,
        description=entity.description,
        tags={"value": "organisation/id"},
    )


def _view(v: Vocabulary, view: declare.View, entity: Entity, home: Path) -> FeatureView:
    shared: dict[str, Any] = {
        "name": view.name,
        "entities": [entity],
        "ttl": timedelta(days=view.ttl_days),
        "schema": [Field(name=entity.join_key, dtype=String), *_fields(v, view)],
        "source": _source(view, training_sets.begin(home, view, entity.join_key)),
        "description": view.description,
        "owner": view.owner,
        "tags": {"written by": "push" if view.external else "stream"},
    }
    if view.external:
        return FeatureView(**shared)
    stamp = training_sets.EVENT_TIMESTAMP
    return StreamFeatureView(**shared, aggregations=list(_aggregations(v)), timestamp_field=stamp)


def _fields(v: Vocabulary, view: declare.View) -> Iterator[Field]:
    windows = {} if view.external else {feature.name: feature.window for feature in v.features}
    for field in view.fields:
        tags = {"unit": field.unit, "window": windows.get(field.name), "trait": field.trait}
        told = {name: value for name, value in tags.items() if value}
        yield Field(name=field.name, dtype=_TYPES[field.kind], description=field.description, tags=told)


def _source(view: declare.View, place: Path) -> PushSource:
    rows = FileSource(
        name=f"{view.name}_rows",
        path=str(place),
        file_format=ParquetFormat(),
        timestamp_field=training_sets.EVENT_TIMESTAMP,
        created_timestamp_column=training_sets.CREATED,
        description=f"{view.name} as of past instants",
        owner=view.owner,
    )
    return PushSource(name=view.push_source, batch_source=rows, description=view.description, owner=view.owner)


def _aggregations(v: Vocabulary) -> Iterator[Aggregation]:
    """Those that Feast has words for: counts and sums of one event type. Feast does not run them."""
    for feature in v.features:
        of = feature.of
        if not isinstance(of, declare.Aggregate) or of.measure not in {"count", "sum"} or of.tag:
            continue
        for event in v.members(of.events) if len(v.members(of.events)) == 1 else ():
            yield Aggregation(
                name=feature.name,
                column=event if of.measure == "count" else f"{event}.{v.event[event].value}",
                function=of.measure,
                time_window=timedelta(days=of.days, hours=of.hours),
                slide_interval=timedelta(hours=1) if of.hourly else timedelta(days=1),
            )


def _service(v: Vocabulary, service: declare.Service, views: dict[str, FeatureView]) -> FeatureService:
    """Features stand in the declared order; Feast keeps a service's features of one view together.

    What only a request gives is no feature, so Feast does not have it.
    """
    found = [pair for pair in map(v.resolve, v.stored(service)) if pair]
    order = {view.name: i for i, (view, _) in reversed(list(enumerate(found)))}
    grouped = groupby(sorted(found, key=lambda pair: order[pair[0].name]), key=lambda pair: pair[0].name)
    tags = {"alert": service.alert, "outcome": service.outcome}
    return FeatureService(
        name=service.name,
        features=[views[name][[field.name for _, field in pairs]] for name, pairs in grouped],
        description=service.description,
        tags={name: value for name, value in tags.items() if value},
        owner=views[v.view].owner,
    )


if __name__ == "feast_objects":  # so does `feast apply` call it
    globals().update(registered(__file__, os.environ.get("TELLTALE_FEATURE_REPO", "")))
