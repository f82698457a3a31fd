"""The simulated world is honest: known best, no feature that gives it away, rates as declared, the same by seed."""

from __future__ import annotations

import ast

import msgspec
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from feature_repo.vocabulary import Vocabulary
from flows.plan import Plan
from tests.live import ROOT
from training.backfill import stream
from training.dataset import Rows, Span, label, rows
from training.fit import grow, margin
from training.model import BOOSTED
from training.records import Records
from training.simulate import History, simulate
from training.world import FIRST, OUTCOMES, SECOND, TYPES

PEOPLE, DAYS, HORIZON = 10_000, 400, 90
VOCABULARY = Vocabulary()


@pytest.fixture(scope="module")
def history() -> History:
    return simulate(PEOPLE, DAYS, seed=3)


@pytest.fixture(scope="module")
def sampled(history: History) -> Rows:
    of = stream(history, VOCABULARY)
    everybody = np.arange(PEOPLE)
    return rows(Plan(VOCABULARY), of, Span(90, DAYS - HORIZON), everybody, 0.012, np.random.default_rng(1))


@pytest.fixture(scope="module")
def labels(history: History, sampled: Rows) -> dict[str, np.ndarray]:
    of = stream(history, VOCABULARY)
    return {outcome: label(VOCABULARY, of, outcome, sampled, HORIZON) for outcome in OUTCOMES}


def test_no_code_shared_with_the_features() -> None:
    """The modules that make a world import nothing but each other, numpy and msgspec."""
    room = ROOT / "training"
    todo, seen = {"simulate"}, set()
    while todo:
        name = todo.pop()
        seen.add(name)
        tree = ast.parse((room / f"{name}.py").read_text())
        modules = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        rooms = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module == "training"]
        inner = {alias.name for node in rooms for alias in node.names}
        assert {m.split(".")[0] for m in modules | names} <= {"__future__", "typing", "msgspec", "numpy", "training"}
        todo |= ({m.removeprefix("training.") for m in modules if m.startswith("training.")} | inner) - seen
    assert {"world", "people", "plans", "visits", "mail", "traits"} <= seen


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_best_reachable(outcome: str, history: History, sampled: Rows, labels: dict[str, np.ndarray]) -> None:
    """Whoever sees the hidden state ranks scoring instants with an AUC of 0.80-0.92: good, not perfect."""
    best = history.best(sampled.person, sampled.at, outcome, HORIZON)
    assert 0.80 <= roc_auc_score(labels[outcome], best) <= 0.92


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_hidden_chance_is_a_probability(
    outcome: str, history: History, sampled: Rows, labels: dict[str, np.ndarray]
) -> None:
    """Among instants of a hidden chance above one half, about that share is followed by the act."""
    best = history.best(sampled.person, sampled.at, outcome, HORIZON)
    likely = best > 0.5
    assert labels[outcome][likely].mean() == pytest.approx(best[likely].mean(), abs=0.1)


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_no_feature_gives_it_away(outcome: str, sampled: Rows, labels: dict[str, np.ndarray]) -> None:
    """No single feature ranks with an AUC above 0.75, in either direction."""
    found = {
        feature.name: roc_auc_score(labels[outcome], sampled.features[:, i])
        for i, feature in enumerate(VOCABULARY.features)
    }
    assert {name: auc for name, auc in found.items() if max(auc, 1 - auc) > 0.75} == {}


def test_shuffled_labels_give_one_half(sampled: Rows, labels: dict[str, np.ndarray]) -> None:
    """Trees trained on shuffled labels rank other rows' shuffled labels no better than chance: nothing leaks."""
    shuffled = np.random.default_rng(4).permutation(labels["home_listed"])
    train = np.arange(len(sampled)) % 2 == 0
    booster = grow(BOOSTED, sampled.features[train], shuffled[train], seed=1)
    assert roc_auc_score(shuffled[~train], margin(booster, sampled.features[~train])) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize(("kind", "outcome"), list(enumerate(OUTCOMES)))
def test_yearly_rates(kind: int, outcome: str, history: History) -> None:
    """Each outcome happens about as often as its plan declares."""
    happened = (history.events.type == TYPES.index(outcome)).sum() / PEOPLE / DAYS * 365
    assert happened == pytest.approx(FIRST.plans[kind].yearly, rel=0.15)


def test_same_by_seed() -> None:
    """One seed gives one history, event by event; another seed another."""
    one, same, other = (simulate(300, 60, seed) for seed in (5, 5, 6))
    assert _equal(one.events, same.events)
    assert not _equal(one.events, other.events)


def test_people_do_not_depend_on_how_many_they_are() -> None:
    """The first hundred people do the same in a world of 100 as in one of 1,500."""
    few, many = simulate(100, 60, seed=5), simulate(1500, 60, seed=5)
    rows = np.flatnonzero(many.events.person < 100)
    assert _equal(few.events, many.events.take(rows))
    assert np.array_equal(few.message, many.message[rows])


def test_events_in_order_with_their_own_numbers() -> None:
    """Events come in order of time, within the simulated days, each with a message number of its own."""
    history = simulate(2500, 100, seed=8)
    assert (np.diff(history.events.ts) >= 0).all()
    assert history.events.ts[0] >= history.start
    assert history.events.ts[-1] < history.end
    assert len(np.unique(history.message)) == len(history.events)


def test_some_browse_and_never_act_some_act_without_a_trace(history: History) -> None:
    """There are plans that end in nothing, and people who act although they never visited in the 90 days before."""
    assert np.isinf(history.plans.act).mean() > 0.3
    events = history.events
    acted = np.flatnonzero((events.type >= TYPES.index(OUTCOMES[0])) & (events.ts > history.start + 90 * 86_400_000))
    visited = np.flatnonzero(events.type == TYPES.index("session"))
    key = np.sort((events.person[visited].astype(np.int64) << 42) | events.ts[visited])
    until = (events.person[acted].astype(np.int64) << 42) | events.ts[acted]
    silent = np.searchsorted(key, until) == np.searchsorted(key, until - 90 * 86_400_000)
    assert 0.05 < silent.mean() < 0.5


def test_programs_open_mail(history: History) -> None:
    """Some people's mail is opened within minutes, nearly every time: by a program, not by them."""
    of = history.events
    sent, opened = (np.bincount(of.person[of.type == TYPES.index(t)], minlength=PEOPLE) for t in TYPES[9:11])
    share = opened / np.maximum(sent, 1)
    assert 0.2 < (share > 0.8).mean() < 0.4


def test_seasons_and_weekdays() -> None:
    """People list and buy more homes from March to July than in other months, and visit more on weekdays."""
    world = msgspec.structs.replace(FIRST, visits=0.01, subscribed=0.0)
    of = simulate(16_000, 730, seed=2, world=world).events
    month = of.ts.astype("M8[ms]").astype("M8[M]").astype(int) % 12
    moved = np.bincount(month[np.isin(of.type, (TYPES.index("home_listed"), TYPES.index("home_bought")))], minlength=12)
    assert moved[2:7].mean() > 1.1 * np.delete(moved, range(2, 7)).mean()
    weekday = (of.ts[of.type == 0] // 86_400_000 + 3) % 7
    assert (weekday < 5).mean() > 5 / 7


def test_second_world_differs() -> None:
    """The second world has other rates and habits: its people visit more and act in other proportions."""
    first, second = (simulate(3000, 200, 4, world).events for world in (FIRST, SECOND))
    assert (second.type == 0).sum() > 1.1 * (first.type == 0).sum()


def _equal(one: Records, other: Records) -> bool:
    names = Records.__struct_fields__
    return len(one) == len(other) and all(
        np.array_equal(getattr(one, name), getattr(other, name), equal_nan=name == "value") for name in names
    )
