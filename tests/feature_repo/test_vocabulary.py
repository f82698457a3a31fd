"""The vocabulary: complete, checked as a whole, and documented."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from feature_repo import domain, layout
from feature_repo.declare import Count, Derived, EventType, Feature, Last, Service, Signal, TraitValue
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
    monkeypatch.setattr("feature_repo.vocabulary.field", lambda view, name: b"same")
    two = (feature("a", Count("viewed", days=7)), feature("b", Count("viewed", days=7)))
    with pytest.raises(VocabularyError, match="features user_features:a and user_features:b share"):
        Vocabulary(made(FEATURES=two))  # type: ignore[arg-type]  # a namespace does for a module


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
