"""`telltale features report` over a store whose features are known."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pytest
import redis

from feature_repo import keys, layout
from feature_repo.declare import Value, View
from feature_repo.settings import Settings
from feature_repo.vocabulary import load
from flows import lake_files
from flows.store import create
from serving.complaint import Complaint
from serving.distribution import FEW
from serving.feature_report import FeatureReport, Report, ViewReport, report
from serving.report_page import page
from tests.live import ROOT, environment

VOCABULARY = load()
FLOW, LEADS = VOCABULARY.views[VOCABULARY.view], VOCABULARY.views["lead_crm"]
FIRST, SECOND = FLOW.fields[0].name, FLOW.fields[1].name
NOW, DAY = 1_760_000_000_000, 86_400_000
PEOPLE = 300


def write(client: redis.Redis, view: View, whose: str, at: int, values: dict[str, Value]) -> None:
    """As the engine, or who pushes, writes it."""
    fields = {layout.field(view.name, name): encoded(value) for name, value in values.items()}
    key = layout.entity_key(VOCABULARY.entity_of(view).join_key, f"main/{whose}".encode())
    client.hset(key, mapping={**fields, layout.timestamp_field(view.name): layout.timestamp(at)})


def encoded(value: Value) -> bytes:
    return layout.integer(value) if isinstance(value, int) else layout.double(float(value))


def everybody(client: redis.Redis, numbers: Sequence[float]) -> None:
    """People whose first feature is told, and whose second every other one has; a fifth are older than the TTL."""
    for i, n in enumerate(numbers):
        at = NOW - (DAY * (FLOW.ttl_days + 1) if i % 5 == 0 else 3_600_000)
        write(client, FLOW, f"u{i}", at, {FIRST: n, **({SECOND: 7.0} if i % 2 else {})})


@pytest.fixture
def store(client: redis.Redis, settings: Settings) -> redis.Redis:
    """A store that takes time from events, whose newest entry is of `NOW`."""
    create(client, settings)
    client.xadd(keys.log(0), {"e": b""}, id=f"{NOW}-0")
    return client


def view(found: Report, name: str) -> ViewReport:
    return next(v for v in found.views if v.about.name == name)


def feature(found: Report, name: str, of: str = FLOW.name) -> FeatureReport:
    return next(f for f in view(found, of).features if f.about.name == name)


def test_it_tells_what_the_store_holds(store: redis.Redis, settings: Settings) -> None:
    """Mean and missing values of each feature, over all people."""
    everybody(store, range(PEOPLE))
    found = report(settings)
    assert (view(found, FLOW.name).sampled, view(found, FLOW.name).present) == (PEOPLE, PEOPLE)
    assert feature(found, FIRST).distribution.mean == pytest.approx((PEOPLE - 1) / 2)
    assert feature(found, SECOND).distribution.missing == pytest.approx(0.5)
    assert feature(found, FLOW.fields[2].name).distribution.missing == 1.0


def test_ages_are_by_the_stores_time(store: redis.Redis, settings: Settings) -> None:
    """A fifth was written before the TTL, all others an hour ago."""
    everybody(store, range(PEOPLE))
    found = report(settings)
    assert found.at == datetime.fromtimestamp(NOW / 1000, UTC)
    told = view(found, FLOW.name).freshness
    assert told is not None
    assert (told.median, told.oldest, told.expired) == (1.0, 24.0 * (FLOW.ttl_days + 1), 0.2)


def test_external_views_are_looked_at_too(store: redis.Redis, settings: Settings) -> None:
    """Of another entity, and of people whom the stream has not met."""
    write(store, LEADS, "l1", NOW, {"engagement_score": 50.0, "days_since_contact": 3.0})
    write(store, VOCABULARY.views["user_finances"], "u9", NOW, {"credit_enquiries_90d": 4})
    found = report(settings)
    assert feature(found, "engagement_score", LEADS.name).distribution.mean == 50.0
    assert feature(found, "source_quality", LEADS.name).distribution.missing == 1.0
    assert feature(found, "credit_enquiries_90d", "user_finances").distribution.mean == 4.0
    assert (view(found, FLOW.name).sampled, view(found, FLOW.name).present) == (1, 0)


def test_the_sample_is_bounded(store: redis.Redis, settings: Settings) -> None:
    """However many people there are."""
    everybody(store, range(PEOPLE))
    assert view(report(settings, sample=50), FLOW.name).sampled == 50


def test_it_tells_who_uses_a_feature_and_where_it_is_declared(store: redis.Redis, settings: Settings) -> None:
    """Services, the newest version of their models, file and line."""
    told = feature(report(settings), FIRST)
    assert told.about.services == [service.name for service in VOCABULARY.services if FIRST in service.features]
    assert [model.partition("/")[0] for model in told.models] == told.about.services
    file, line = told.about.defined.split(":")
    assert FIRST in (ROOT / file).read_text().splitlines()[int(line) - 1]


def test_drift_is_told_from_an_earlier_report(store: redis.Redis, settings: Settings, tmp_path: Path) -> None:
    """What moved has drifted much, what did not has not."""
    rng = np.random.default_rng(2)
    everybody(store, rng.normal(5, 1, PEOPLE).tolist())
    earlier = tmp_path / "earlier.json"
    earlier.write_bytes(msgspec.json.encode(report(settings)))
    everybody(store, rng.normal(9, 1, PEOPLE).tolist())
    found = report(settings, earlier)
    first, second = feature(found, FIRST).drift, feature(found, SECOND).drift
    assert first is not None
    assert second is not None
    assert (first.psi > 1, second.psi) == (True, 0.0)


def test_without_a_reference_drift_is_said_to_be_absent(store: redis.Redis, settings: Settings) -> None:
    """In words; no feature has any."""
    everybody(store, range(PEOPLE))
    found = report(settings)
    assert found.reference.startswith("nothing: no --reference was given")
    assert {f.drift for v in found.views for f in v.features} == {None}


def served(settings: Settings, day: int, numbers: Sequence[float]) -> None:
    """A file of the lake: a row a person."""
    at, n = NOW + day * DAY, len(numbers)
    stamps = pa.array([at * 1000] * n).cast(pa.timestamp("us", tz="UTC"))
    whose = pa.array([f"main/u{i}" for i in range(n)])
    table = pa.table(
        [whose, stamps, stamps, pa.array(numbers)], [VOCABULARY.join_key, "event_timestamp", "created", FIRST]
    )
    lake_files.write(settings.lake / lake_files.FEATURES, [], table, (0, (at, 0), (at, 1)))


def test_drift_is_told_from_the_lakes_earlier_half(store: redis.Redis, settings: Settings) -> None:
    """Each person's last row of either half counts; a person's earlier rows of the same half do not."""
    served(settings, 0, [99.0] * PEOPLE)
    served(settings, 1, [1.0] * PEOPLE)
    served(settings, 9, [1.0] * (PEOPLE // 2) + [2.0] * (PEOPLE // 2))
    found = report(settings)
    told = feature(found, FIRST).drift
    assert told is not None
    assert (told.before, told.after) == ([1.0, 0.0], [0.5, 0.5])
    assert "the features as served" in found.reference
    assert feature(found, SECOND).drift is None


def test_a_reference_that_is_no_report_is_named(settings: Settings, tmp_path: Path) -> None:
    """The file, and what was expected."""
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(Complaint, match=r"x\.json: expected what `telltale features report --json` printed"):
        report(settings, tmp_path / "x.json")


def run(settings: Settings, place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "serving.command", "features", "report", *words]
    given = {**environment(settings), "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=given, cwd=place, capture_output=True, text=True, check=False)


def test_the_command_writes_one_page_that_needs_nothing_else(
    store: redis.Redis, settings: Settings, tmp_path: Path
) -> None:
    """No script, nothing from outside; a row a feature, and a histogram of each that has values."""
    everybody(store, range(PEOPLE))
    done = run(settings, tmp_path)
    assert (done.returncode, done.stdout) == (0, "features.html\n"), done.stderr
    text = (tmp_path / "features.html").read_text()
    assert not re.search(r"<script|<link|<img|src=|@import|url\(|https?://", text)
    for declared in VOCABULARY.views.values():
        for field in declared.fields:
            assert text.count(f'<tr id="{declared.name}.{field.name}">') == 1
    assert text.count("<svg") == 2


def test_the_command_prints_json(store: redis.Redis, settings: Settings, tmp_path: Path) -> None:
    """What a report is read from again."""
    everybody(store, range(PEOPLE))
    told = msgspec.json.decode(run(settings, tmp_path, "--json").stdout, type=Report)
    assert feature(told, FIRST).distribution.count == PEOPLE
    assert run(settings, tmp_path, "--json", "--out", "f.json").stdout == "f.json\n"
    assert json.loads((tmp_path / "f.json").read_text())["clock"] == "log"


def test_the_page_says_why_a_drift_is_absent(store: redis.Redis, settings: Settings) -> None:
    """The lake knows too few people, and which setting lets it know more."""
    served(settings, 0, [1.0] * (FEW - 1))
    served(settings, 9, [1.0] * (FEW - 1))
    assert f"– is: fewer than {FEW} values\nare known" in (told := page(report(settings)))
    assert "TELLTALE_LAKE_FEATURES" in told
    assert "drifted much" in told
    assert ">–</b>" in told.partition("drifted much")[0]


def test_what_is_declared_cannot_break_the_page(store: redis.Redis, settings: Settings) -> None:
    """Descriptions are shown, not obeyed."""
    found = report(settings)
    found.views[0].features[0].about.description = "<b onclick=alert(1)>&"
    assert "&lt;b onclick=alert(1)&gt;&amp;" in page(found)


def test_without_a_store_it_says_so(settings: Settings, tmp_path: Path) -> None:
    """In one line, exit code 2."""
    done = run(Settings(home=tmp_path), tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("telltale: no store runs in")
