"""Statistics over alerts: what counting them one by one gives, between any two moments, however many there are."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from scipy import stats as scipy_stats

from feature_repo.settings import Settings
from flows import alert_outcomes, alert_stats, alert_status, alert_tally, estimates
from flows.alert_outcomes import Outcome
from flows.alert_stats import END, Range, Stats, cover
from flows.alert_store import AlertStore, open_alerts
from flows.alert_tally import RIGHT, Facts
from tests.flows.made_alerts import alert

HOUR, DAY = 3_600_000, 86_400_000
TYPES = ("LIKELY_TO_BUY", "LIKELY_TO_SELL")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AlertStore]:
    """400 alerts of 100 days at odd moments, some of them on the edges of spans, with all that can come of them."""
    rng = random.Random(7)
    with closing(open_alerts(Settings(home=tmp_path_factory.mktemp("stats")))) as opened:
        made = [_made(n, rng) for n in range(400)]
        opened.insert(made)
        ids = [one.id for one in made]
        with opened.writing() as connection:
            for to in ("DELIVERED", "ACKNOWLEDGED", "CONVERTED"):
                ids = rng.sample(ids, len(ids) * 2 // 3)
                alert_status.move(connection, ids, to, who="ann", at=101 * DAY)
            for one in rng.sample(made, 150):
                alert_outcomes.record(connection, [one.id], _told(rng), who="ann", at=102 * DAY, organisation="acme")
        yield opened


def _made(n: int, rng: random.Random) -> Any:
    at = rng.choice([rng.randrange(100 * DAY), rng.randrange(100) * DAY, rng.randrange(2_400) * HOUR - 1])
    return alert(
        n,
        type=rng.choice(TYPES),
        model=rng.choice(["likely_to_buy", "likely_to_sell"]),
        model_version=rng.choice(["1", "2"]),
        priority=rng.choice(["CRITICAL", "HIGH"]),
        score=rng.random(),
        withheld=rng.random() < 0.1,
        scored_at=max(at, 0),
        organisation="other" if n % 10 == 0 else "acme",
    )


def _told(rng: random.Random) -> Outcome:
    if rng.random() < 0.5:
        return Outcome(outcome=rng.choice(RIGHT), converted=True, value=rng.randrange(1_000) * 1.5)
    return Outcome(outcome=rng.choice(alert_tally.JUDGEMENTS))


def plain(store: AlertStore, when: Range, type_: str | None = None) -> list[Facts]:
    """The alerts that count, one by one."""
    with store.engine.connect() as connection:
        rows = [alert_tally.read(row) for row in connection.execute(sa.select(*alert_tally.FACTS)).mappings()]
    mine = (one for one in rows if one.organisation == "acme" and when[0] <= one.scored_at < when[1])
    return [one for one in mine if type_ in (None, one.type)]


def asked(store: AlertStore, when: Range = (0, END), type_: str | None = None, cost: float = 0.0) -> Stats:
    with store.engine.connect() as connection:
        return alert_stats.stats(connection, "acme", when, type_, cost)


def moments(rng: random.Random) -> Range:
    low, high = sorted(rng.choice([0, END, rng.randrange(100 * DAY), rng.randrange(100) * DAY]) for _ in range(2))
    return low, high


@pytest.mark.parametrize("seed", range(25))
def test_sums_are_what_counting_gives(store: AlertStore, seed: int) -> None:
    """Between any moments, of all types or of one: every number of every group."""
    rng = random.Random(seed)
    when, type_ = moments(rng), rng.choice([None, *TYPES])
    found, rows = asked(store, when, type_, cost=2.0), plain(store, when, type_)
    told = [one for one in rows if not one.withheld]
    gone = [one for one in told if one.has_converted]
    assert found.totals.alerts == len(told)
    assert found.totals.converted == len(gone)
    assert found.totals.revenue.amount == pytest.approx(sum(one.value or 0.0 for one in gone))
    assert found.totals.cost == 2.0 * len(told)
    assert found.withheld.alerts == len(rows) - len(told)
    for status, n in found.by_status.items():
        assert n == sum(one.status == status for one in told)
    for kind, group in found.by_type.items():
        mine = [one for one in told if one.type == kind]
        right = sum(one.outcome == "TRUE_POSITIVE" for one in mine)
        wrong = sum(one.outcome == "FALSE_POSITIVE" for one in mine)
        assert (group.alerts, group.precision.of) == (len(mine), right + wrong)
        assert group.precision.share == (right / (right + wrong) if right + wrong else None)
    for band, some in found.by_score.items():
        assert some.alerts == sum(f"{math.floor(one.score * 10) / 10:.1f}" == band for one in told)
    assert sum(some.alerts for some in found.by_priority.values()) == len(told)


def test_time_to_conversion_is_from_the_score(store: AlertStore) -> None:
    """In hours; where nobody told when, the moment of the record or of the step counts."""
    gone = [one for one in plain(store, (0, END)) if one.has_converted and not one.withheld]
    hours = [((one.converted_at if one.outcome else one.status_at) or 0) - one.scored_at for one in gone]
    found = asked(store).totals.hours_to_conversion
    assert found.of == len(gone)
    assert found.amount == pytest.approx(sum(hours) / len(hours) / HOUR)


@pytest.mark.parametrize("seed", range(10))
def test_models_are_judged_by_version(store: AlertStore, seed: int) -> None:
    """Predicted is the mean score of the alerts told, observed the share of them that did what was predicted."""
    when = moments(random.Random(seed))
    with store.engine.connect() as connection:
        found = alert_stats.performance(connection, "acme", when)
    rows = plain(store, when)
    assert sum(one.alerts for one in found) == len(rows)
    for one in found:
        mine = [r for r in rows if (r.model, r.model_version, r.type) == (one.model, one.version, one.type)]
        told = [r for r in mine if r.outcome]
        assert (one.alerts, one.told) == (len(mine), len(told))
        if told:
            assert one.predicted == pytest.approx(sum(r.score for r in told) / len(told))
            assert one.observed.share == pytest.approx(sum(r.outcome in RIGHT for r in told) / len(told))
            errors = [(r.score - (r.outcome in RIGHT)) ** 2 for r in told]
            assert one.brier == pytest.approx(sum(errors) / len(told))


@pytest.mark.parametrize("seed", range(20))
def test_spans_make_up_the_whole(seed: int) -> None:
    """Without a gap, without a moment twice, each aligned, and less than an hour left at either end."""
    rng = random.Random(seed)
    low, high = sorted(rng.randrange(200 * DAY) for _ in range(2))
    parts = list(cover((low, high)))
    ends = [part for _, part in parts]
    assert [ends[0][0], ends[-1][1]] == [low, high]
    assert all(one[1] == after[0] for one, after in pairwise(ends))
    for span, (start, end) in parts:
        assert start % (span * HOUR or 1) == end % (span * HOUR or 1) == 0
        assert span or end - start < HOUR


def test_no_dates_cost_a_scan_of_the_alerts(store: AlertStore) -> None:
    """Sums are sought by organisation, span and dates, and what is left by the index of alerts by time."""
    plans: list[str] = []
    with store.engine.connect() as connection:

        @sa.event.listens_for(connection, "before_cursor_execute")
        def explain(conn: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
            rows = conn.connection.driver_connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.extend(row[3] for row in rows)

        alert_stats.stats(connection, "acme", (12_345_678, 77 * DAY + 1), None, 0.0)
    looks = [plan for plan in plans if plan.startswith(("SCAN", "SEARCH"))]
    assert len(looks) == 6  # four weeks, days before and after, hours, and a rest at either end
    for look in looks:
        rest = "alerts USING INDEX alerts_by_time (organisation=? AND scored_at>? AND scored_at<?)"
        whole = "alert_tallies USING PRIMARY KEY (organisation=? AND span=? AND start>? AND start<?)"
        assert look in (f"SEARCH {rest}", f"SEARCH {whole}"), look


@pytest.mark.parametrize(("part", "of"), [(0, 7), (7, 7), (3, 10), (1, 1), (420, 1_000)])
def test_shares_have_wilsons_interval(part: int, of: int) -> None:
    """As scipy has it; of nothing there is none."""
    found = estimates.share(part, of)
    expected = scipy_stats.binomtest(part, of).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert estimates.share(0, 0).share is None


def test_amounts_have_the_normal_interval() -> None:
    """Of a mean and of a sum, from sums and squares alone."""
    values = [1.0, 4.0, 4.0, 9.0, 0.0]
    error = scipy_stats.sem(values) * estimates.Z
    mean = estimates.mean(sum(values), sum(v * v for v in values), 5)
    assert (mean.low, mean.high) == pytest.approx((3.6 - error, 3.6 + error))
    total = estimates.total(sum(values), sum(v * v for v in values), 5)
    assert (total.low, total.high) == pytest.approx((18 - 5 * error, 18 + 5 * error))
    assert msgspec.structs.astuple(estimates.mean(3.0, 9.0, 1)) == (3.0, None, None, 1)


def test_the_return_is_revenue_over_cost(store: AlertStore) -> None:
    """With its interval; null where no cost is set."""
    found = asked(store, cost=5.0).totals
    assert found.return_on_cost is not None
    assert found.cost == 5.0 * found.alerts
    assert found.return_on_cost.amount == pytest.approx((found.revenue.amount or 0) / found.cost)
    assert asked(store).totals.return_on_cost is None


def test_no_alerts_no_figures(store: AlertStore) -> None:
    """Shares of nothing are null, not an error."""
    found = asked(store, (5, 5)).totals
    assert (found.alerts, found.conversion.share, found.precision.share) == (0, None, None)
