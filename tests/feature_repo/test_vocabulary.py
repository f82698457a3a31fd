"""The vocabulary: complete, checked as a whole, and documented."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from feature_repo import domain, layout
from feature_repo.declare import (
    Count,
    Derived,
    Entity,
    EventType,
    Feature,
    Field,
    Input,
    Last,
    Service,
    Signal,
    Trait,
    TraitValue,
    View,
)
from feature_repo.settings import SettingError
from feature_repo.settings import load as load_settings
from feature_repo.vocabulary import Vocabulary, VocabularyError, load
from flows.plan import Plan
from flows.windows import Table

README = Path(domain.__file__).with_name("README.md").read_text()
VOCABULARY = load()
DECLARED: tuple[EventType | Feature | Signal, ...] = (*VOCABULARY.events, *VOCABULARY.features, *VOCABULARY.signals)


def made(**parts: Any) -> SimpleNamespace:
    """A small domain, sound but for `parts`."""
    viewed = EventType(name="viewed", description="viewed", tags=("red",), tag="colour")
    sound = {"EVENTS": (viewed,), "FEATURES": (feature("views", Count("viewed", days=7)),)}
    return SimpleNamespace(**{**sound, **parts})


def feature(name: str, of: Any) -> Feature:
    return Feature(name=name, unit="events", window="7 d", default=0.0, description=name, of=of)


def test_the_domain_is_as_large_as_promised() -> None:
    """12 kinds of behaviour, 45 features, 11 signals, 4 models that alert."""
    behaviours = [e for e in VOCABULARY.events if e.role == "behaviour"]
    alerts = [s for s in VOCABULARY.services if s.alert]
    assert (len(behaviours), len(VOCABULARY.features), len(VOCABULARY.signals), len(alerts)) == (12, 45, 11, 4)


@pytest.mark.parametrize("name", [declared.name for declared in DECLARED])
def test_everything_declared_has_a_row_in_the_readme(name: str) -> None:
    """The table shows the name and the description as declared."""
    declared = [d for d in DECLARED if d.name == name]
    rows = [line for line in README.splitlines() if line.startswith(f"| `{name}` ")]
    assert [d.description for d in declared if any(d.description in row for row in rows)] == [
        d.description for d in declared
    ]


OUTSIDE = [
    *((e.name, e.join_key, "", e.description) for e in VOCABULARY.entities),
    *((w.name, w.entity, f"{w.ttl_days} days | `{w.push_source}`", w.description) for w in VOCABULARY.external),
]
PUSHED = [(w.name, f) for w in VOCABULARY.external for f in w.fields]


@pytest.mark.parametrize(("name", "of", "more", "description"), OUTSIDE, ids=[name for name, *_ in OUTSIDE])
def test_every_entity_and_external_view_has_a_row_in_the_readme(
    name: str, of: str, more: str, description: str
) -> None:
    """Whose it is or its join key, TTL and push source, and the description as declared."""
    cells = " | ".join(filter(None, (f"| `{name}`", f"`{of}`", more, description)))
    assert f"{cells} |" in README.splitlines()


@pytest.mark.parametrize(("view", "field"), PUSHED, ids=lambda one: getattr(one, "name", one))
def test_every_pushed_feature_has_a_row_in_the_readme(view: str, field: Field) -> None:
    """Its kind, unit, trait, default and description as declared."""
    trait = f"`{field.trait}`" if field.trait else ""
    row = f"| `{view}:{field.name}` | {field.kind} | {field.unit} | {trait} | {field.default:g} | {field.description} |"
    assert row in README.splitlines()


@pytest.mark.parametrize("reference", VOCABULARY.inputs)
def test_every_input_of_a_request_has_a_row_in_the_readme(reference: str) -> None:
    """Its unit, default and description as declared."""
    given = VOCABULARY.inputs[reference]
    assert f"| `{reference}` | {given.unit} | {given.default:g} | {given.description} |" in README.splitlines()


@pytest.mark.parametrize("service", VOCABULARY.services, ids=lambda service: service.name)
def test_every_input_of_a_model_has_a_source_and_a_default(service: Service) -> None:
    """The stream, a push, or the request."""
    for name in service.features:
        if name in VOCABULARY.inputs:
            assert VOCABULARY.default(name) == VOCABULARY.inputs[name].default
        else:
            found = VOCABULARY.resolve(name)
            assert found is not None
            assert VOCABULARY.default(name) == found[1].default


@pytest.mark.parametrize("service", [s for s in VOCABULARY.services if not s.alert], ids=lambda service: service.name)
def test_a_model_that_is_scored_when_asked_reads_views_of_one_entity(service: Service) -> None:
    """So that one id finds all that is stored of it."""
    found = [VOCABULARY.resolve(name) for name in VOCABULARY.stored(service)]
    assert len({pair[0].entity for pair in found if pair}) == 1


def test_somebody_unknown_has_the_defaults() -> None:
    """Each feature's declared default is what the engine gives for a person of whom nothing is known."""
    table = Table(Plan(VOCABULARY), 1)
    row = table.rows(np.array([7], np.uint64))
    table.touch(row, np.array([1_760_000_000_000]))
    found = dict(zip(VOCABULARY.feature_index, table.evaluate(row)[0].tolist(), strict=True))
    assert found == {f.name: f.default for f in VOCABULARY.features}


@pytest.mark.parametrize(
    "name", ["Document Viewed", "document_viewed", "documentViewed", "DOCUMENT VIEWED", "document_access"]
)
def test_a_name_is_known_however_it_is_spelled(name: str) -> None:
    """Segment's "Object Action", snake and camel case mean the same."""
    found = VOCABULARY.named(name)
    assert found is not None
    assert found.name == "document_access"


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    """A slip of the pen is recognised; something else is not."""
    assert VOCABULARY.named("document_acces") is None
    assert VOCABULARY.nearest("document_acces") == "document_access"
    assert VOCABULARY.nearest("zzzzqqqq") is None


def test_all_errors_are_said_at_once() -> None:
    """A domain with seven faults names all seven."""
    broken = made(
        EVENTS=(*made().EVENTS, EventType(name="bought", description="bought", role="outcome")),
        FEATURES=(
            feature("views", Count("viewed", days=7)),
            feature("views", Count("viewed", days=8)),
            feature("long", Count("viewed", days=91)),
            feature("missing", Count("vanished", days=7)),
            feature("blue", Count("viewed", days=7, tag="blue")),
            feature("leak", Last(("bought",))),
            feature("told", Derived(np.add, (TraitValue("age"),))),
        ),
        SERVICES=(Service(name="model", features=("nothing",), description="model"),),
    )
    with pytest.raises(VocabularyError) as caught:
        Vocabulary(broken)  # type: ignore[arg-type]  # a namespace does for a module
    expected = [
        "declared 2 times",
        "1-90 days",
        "vanished",
        "blue",
        "never a feature",
        "no trait age",
        "no feature nothing",
    ]
    assert len(caught.value.errors) == len(expected)
    assert all(any(word in error for error in caught.value.errors) for word in expected)


def test_features_that_share_feasts_field_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Feast keeps 4 bytes of a feature's name and never looks for collisions."""
    monkeypatch.setattr("feature_repo.faults.field", lambda view, name: b"same")
    two = (feature("a", Count("viewed", days=7)), feature("b", Count("viewed", days=7)))
    with pytest.raises(VocabularyError, match="features user_features:a and user_features:b share"):
        Vocabulary(made(FEATURES=two))  # type: ignore[arg-type]  # a namespace does for a module


def view(name: str = "crm", *fields: Field, entity: str = "user", ttl_days: int = 9) -> View:
    declared = fields or (Field(name="rank", description="rank"),)
    return View(name=name, entity=entity, fields=declared, description=name, owner="crm", ttl_days=ttl_days)


def service(*features: str, alert: str | None = None) -> Service:
    return Service(name="model", features=features, description="model", alert=alert)


def told(kind: Any, trait: str) -> View:
    return view("crm", Field(name="rank", description="rank", kind=kind, trait=trait))


USER = Entity(name="user", join_key="user_id", description="somebody")
LEAD = Entity(name="lead", join_key="lead_id", description="an enquiry")
TRAITS = (Trait(name="job", description="job", kind="text"), Trait(name="age", description="age"))
RANK = Field(name="rank", description="rank")
HOUR = Input(name="hour", default=9.0, description="hour of the day")
FAULTS: dict[str, dict[str, Any]] = {
    "entity user is declared 2 times": {"ENTITIES": (USER, Entity(name="user", join_key="id", description="again"))},
    "join key user_id is declared 2 times": {
        "ENTITIES": (USER, Entity(name="lead", join_key="user_id", description="lead"))
    },
    "view crm is declared 2 times": {"VIEWS": (view(), view())},
    "view user_features is declared 2 times": {"VIEWS": (view("user_features"),)},
    "service model is declared 2 times": {"SERVICES": (service("views"), service("views"))},
    "view crm, field rank is declared 2 times": {"VIEWS": (view("crm", RANK, RANK),)},
    "view crm: no entity lead": {"VIEWS": (view(entity="lead"),)},
    "view crm: its ttl is 0 days, expected 1 or more": {"VIEWS": (view(ttl_days=0),)},
    "view crm: rank tells the trait job, which is a text, and is a number": {
        "TRAITS": TRAITS,
        "VIEWS": (told("number", "job"),),
    },
    "view crm: rank tells the trait age, which is a number, and is a text": {
        "TRAITS": TRAITS,
        "VIEWS": (told("text", "age"),),
    },
    "view crm: rank tells the trait since, which is a date, and is a text": {
        "TRAITS": (Trait(name="since", description="since", kind="date"),),
        "VIEWS": (told("text", "since"),),
    },
    "view crm: rank tells the trait height, which is not declared": {"VIEWS": (told("number", "height"),)},
    "view crm: rank tells the trait age, but is no view of the user": {
        "TRAITS": TRAITS,
        "ENTITIES": (USER, LEAD),
        "VIEWS": (view("crm", Field(name="rank", description="rank", trait="age"), entity="lead"),),
    },
    "view crm: user_id is a column of its rows, name the feature otherwise": {
        "VIEWS": (view("crm", Field(name="user_id", description="id")),)
    },
    "view user_features: created is a column of its rows, name the feature otherwise": {
        "FEATURES": (feature("created", Count("viewed", days=7)),)
    },
    "view crm:all: expected a name of letters, digits and single _": {"VIEWS": (view("crm:all"),)},
    "view crm: a__b: expected a name of letters, digits and single _": {
        "VIEWS": (view("crm", Field(name="a__b", description="a")),)
    },
    "service model: no feature crm:age": {"VIEWS": (view(),), "SERVICES": (service("views", "crm:age"),)},
    "service model: no feature erp:rank": {"VIEWS": (view(),), "SERVICES": (service("erp:rank"),)},
    "service model: no feature rank": {"VIEWS": (view(),), "SERVICES": (service("rank"),)},
    "service model: lists user_features:views more than once": {"SERVICES": (service("views", "user_features:views"),)},
    "view request: so is named what a request gives, name it otherwise": {"VIEWS": (view("request"),)},
    "input hour: its default is nan, expected a finite number": {
        "INPUTS": (Input(name="hour", default=float("nan"), description="hour"),)
    },
    "view crm: rank: its default is inf, expected a finite number": {
        "VIEWS": (view("crm", Field(name="rank", description="rank", default=float("inf"))),)
    },
    "input hour is declared 2 times": {"INPUTS": (HOUR, HOUR)},
    "input the hour: expected a name of letters, digits and single _": {
        "INPUTS": (Input(name="the hour", default=9.0, description="hour"),)
    },
    "service model: no feature request:minute": {"INPUTS": (HOUR,), "SERVICES": (service("request:minute"),)},
    "service model: lists request:hour more than once": {
        "INPUTS": (HOUR,),
        "SERVICES": (service("request:hour", "request:hour"),),
    },
    "service model: an alert is scored in the stream, which has no request:hour": {
        "INPUTS": (HOUR,),
        "SERVICES": (service("views", "request:hour", alert="BUY"),),
    },
    "service model: an alert is scored in the stream, which has no crm:rank": {
        "VIEWS": (view(),),
        "SERVICES": (service("views", "crm:rank", alert="BUY"),),
    },
}


@pytest.mark.parametrize("expected", FAULTS)
def test_a_fault_of_views_and_services_is_named(expected: str) -> None:
    """It, and nothing besides."""
    with pytest.raises(VocabularyError) as caught:
        Vocabulary(made(**FAULTS[expected]))  # type: ignore[arg-type]  # a namespace does for a module
    assert caught.value.errors == [expected]


@pytest.mark.parametrize("name", ["views", "user_features:views", "crm:rank"])
def test_a_service_may_list_a_feature_of_another_view(name: str) -> None:
    """As `view:feature`; one of the flow's view goes by its name, or by both."""
    declared = Vocabulary(made(VIEWS=(view(),), SERVICES=(service(name),)))  # type: ignore[arg-type]  # as above
    found = declared.resolve(name)
    assert found is not None
    assert f"{found[0].name}:{found[1].name}" in {name, f"user_features:{name}"}


def test_views_of_one_entity_may_not_share_feasts_field(monkeypatch: pytest.MonkeyPatch) -> None:
    """One hash holds them all; of another entity there is another hash."""
    monkeypatch.setattr("feature_repo.faults.field", lambda view, name: name[:1].encode())
    views = (view("crm", Field(name="value", description="value")), view("erp", entity="lead"))
    with pytest.raises(VocabularyError, match="features user_features:views and crm:value share Feast's 4-byte field"):
        Vocabulary(made(ENTITIES=(USER, LEAD), VIEWS=views))  # type: ignore[arg-type]  # a namespace does for a module
    Vocabulary(made(ENTITIES=(USER, LEAD), VIEWS=(*views[1:], view("mrp", entity="user"))))  # type: ignore[arg-type]


def test_a_directory_without_a_domain_is_named() -> None:
    """The setting, and the file expected."""
    with pytest.raises(VocabularyError, match=r"TELLTALE_FEATURE_REPO=/nowhere: expected a file domain\.py"):
        load("/nowhere")


def test_a_wrong_setting_is_named_with_what_came() -> None:
    """The variable, the value and what was expected."""
    with pytest.raises(SettingError, match="TELLTALE_PORT='x'"):
        load_settings({"TELLTALE_PORT": "x"})


@pytest.mark.parametrize("ms", [0, 1, 999, 1000, 1_760_000_000_000, 1_760_000_000_123])
def test_timestamps_come_back_from_their_bytes(ms: int) -> None:
    """To the millisecond."""
    assert layout.read_timestamp(layout.timestamp(ms)) == ms


@pytest.mark.parametrize("value", [0.0, -1.5, 1e308, 5e-324])
def test_doubles_come_back_from_their_bytes(value: float) -> None:
    """To the bit; nothing reads as None."""
    assert layout.read_double(layout.double(value)) == value
    assert layout.read_double(b"") is None
