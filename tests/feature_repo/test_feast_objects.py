"""What is registered with Feast is what is declared. Importing Feast takes seconds: only here and in the contracts."""

from __future__ import annotations

import warnings
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from feature_repo import training_sets
from feature_repo.declare import Count, Entity, EventType, Feature, Field, Service, Sum, View
from feature_repo.vocabulary import Vocabulary

VOCABULARY = Vocabulary()
KINDS = {"number": "Float64", "integer": "Int64", "text": "String"}

pytestmark = pytest.mark.filterwarnings("ignore")  # Feast's own


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def derived(vocabulary: Vocabulary, home: Path) -> dict[tuple[str, str], Any]:
    """Feast's objects by kind and name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Feast's own
        from feature_repo.feast_objects import objects

        return {(type(one).__name__, one.name): one for one in objects(vocabulary, home)}


@pytest.fixture(scope="module")
def found(home: Path) -> dict[tuple[str, str], Any]:
    """The objects of the domain that ships."""
    return derived(VOCABULARY, home)


def feature_view(found: dict[tuple[str, str], Any], view: View) -> Any:
    return found["FeatureView" if view.external else "StreamFeatureView", view.name]


@pytest.mark.parametrize("view", VOCABULARY.views.values(), ids=lambda view: view.name)
def test_a_views_schema_is_its_declaration(found: dict[tuple[str, str], Any], view: View) -> None:
    """Names in order, types, descriptions, units."""
    fields = [(f.name, str(f.dtype), f.description, f.tags.get("unit", "")) for f in feature_view(found, view).features]
    assert fields == [(f.name, KINDS[f.kind], f.description, f.unit) for f in view.fields]


@pytest.mark.parametrize("view", VOCABULARY.views.values(), ids=lambda view: view.name)
def test_a_view_has_its_ttl_owner_and_entity(found: dict[tuple[str, str], Any], view: View) -> None:
    """And a description and a push source of the name that the declaration gives."""
    made = feature_view(found, view)
    assert (made.ttl, made.owner, made.description) == (timedelta(days=view.ttl_days), view.owner, view.description)
    assert (made.entities, made.join_keys) == ([view.entity], [VOCABULARY.entity_of(view).join_key])
    assert made.stream_source.name == view.push_source


def test_windows_are_told(found: dict[tuple[str, str], Any]) -> None:
    """Each feature of the flow's view carries its window."""
    made = feature_view(found, VOCABULARY.views[VOCABULARY.view])
    assert {f.name: f.tags["window"] for f in made.features} == {f.name: f.window for f in VOCABULARY.features}


def test_every_entity_is_registered(found: dict[tuple[str, str], Any]) -> None:
    """With its join key and description."""
    made = [one for (kind, _), one in found.items() if kind == "Entity"]
    assert [(e.name, e.join_key, e.description) for e in made] == [
        (e.name, e.join_key, e.description) for e in VOCABULARY.entities
    ]


def test_a_service_lists_its_features_in_order(found: dict[tuple[str, str], Any]) -> None:
    """A model's inputs, as `services.py` has them."""
    for service in VOCABULARY.services:
        listed = found["FeatureService", service.name].feature_view_projections
        stored = [name.rpartition(":")[2] for name in VOCABULARY.stored(service)]
        assert sorted(f.name for projection in listed for f in projection.features) == sorted(stored)
        (first, *_) = listed
        assert [f.name for f in first.features] == [name for name in stored if name in {f.name for f in first.features}]


def small() -> SimpleNamespace:
    """Another domain: counts, a sum, a tag, and a service of two views."""
    viewed = EventType(name="viewed", description="viewed", tag="colour", tags=("red",), value="minutes")
    return SimpleNamespace(
        EVENTS=(viewed, EventType(name="bought", description="bought")),
        ENTITIES=(Entity(name="shopper", join_key="shopper_id", description="somebody"),),
        VIEW="shopping",
        FEATURES=tuple(
            Feature(name=name, of=of, unit="events", window="7 d", default=0.0, description=name)
            for name, of in {
                "views": Count("viewed", days=7),
                "red_views": Count("viewed", days=7, tag="red"),
                "both": Count(("viewed", "bought"), days=7),
                "minutes": Sum("viewed", hours=6),
            }.items()
        ),
        VIEWS=(
            View(
                name="shopper_crm",
                entity="shopper",
                description="crm",
                owner="crm@example.com",
                ttl_days=9,
                fields=(Field(name="note", kind="text", description="note"), Field(name="rank", description="rank")),
            ),
        ),
        SERVICES=(
            Service(name="m", features=("minutes", "shopper_crm:rank", "shopper_crm:note", "views"), description=""),
        ),
    )


@pytest.fixture(scope="module")
def other(home: Path) -> dict[tuple[str, str], Any]:
    """The objects of a domain of its own."""
    return derived(Vocabulary(small()), home)  # type: ignore[arg-type]  # a namespace does for a module


def test_another_domain_is_derived_alike(other: dict[tuple[str, str], Any]) -> None:
    """Its entity, views and service; nothing of real estate."""
    assert [name for kind, name in other if kind != "Project"] == ["shopper", "shopping", "shopper_crm", "m"]


def test_a_service_of_two_views_keeps_each_views_order(other: dict[tuple[str, str], Any]) -> None:
    """Feast keeps the features of one view together; the first named view comes first."""
    listed = other["FeatureService", "m"].feature_view_projections
    assert [(p.name, [f.name for f in p.features]) for p in listed] == [
        ("shopping", ["minutes", "views"]),
        ("shopper_crm", ["rank", "note"]),
    ]


def test_aggregations_say_what_feast_has_words_for(other: dict[tuple[str, str], Any]) -> None:
    """A count and a sum of one event type; not a tag, nor two types together."""
    made = other["StreamFeatureView", "shopping"].aggregations
    assert [(a.name, a.function, a.column, a.time_window, a.slide_interval) for a in made] == [
        ("views", "count", "viewed", timedelta(days=7), timedelta(days=1)),
        ("minutes", "sum", "viewed.minutes", timedelta(hours=6), timedelta(hours=1)),
    ]


def test_rows_have_a_column_for_each_feature(other: dict[tuple[str, str], Any], home: Path) -> None:
    """And whose, when and written when: what the batch source names."""
    import pyarrow.parquet as pq

    source = other["FeatureView", "shopper_crm"].batch_source
    view = Vocabulary(small()).views["shopper_crm"]  # type: ignore[arg-type]  # a namespace does for a module
    assert Path(source.path) == training_sets.directory(home, view)
    (file,) = Path(source.path).glob("*.parquet")
    named = ["shopper_id", source.timestamp_field, source.created_timestamp_column]
    assert pq.read_schema(file).names == [*named, "note", "rank"]
