"""Upgrades under load: the earlier code's processes by today's, one after the other or all at once, and back again."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from flows.store import connect, open_store
from tests.faults.earlier import earlier
from tests.faults.found import Found
from tests.faults.gained import NEW_EVENT, domains, gained, vocabulary
from tests.faults.judge import Verdict, verdict
from tests.faults.plain import Plain, seed_of
from tests.faults.rolling import MODULES, Code, Rolling
from tests.faults.site import Site
from tests.faults.told import told
from tests.flows import streams_made as made
from tests.flows.both_sides import VOCABULARY
from tests.flows.oracle import Oracle, unlike
from tests.live import ROOT

FIRST, MORE = 400, 60  # events before the first process is replaced, and between two
TODAY = Code(ROOT)
HOW = (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL)
PATIENCE_S = 60.0


def one_after_another(budget: float, dice: random.Random, place: Path) -> Found:
    """In any order, ended by SIGTERM or by kill -9."""
    return _each(budget, dice, place, _over)


def engine_overtaken(budget: float, dice: random.Random, place: Path) -> Found:
    """The new engine begins while the old one holds its leases."""
    return _each(budget, dice, place, _overtake)


def and_back(budget: float, dice: random.Random, place: Path) -> Found:
    """To today's code and back to the earlier one, which goes on with what today's wrote."""
    return _each(budget, dice, place, _to_and_fro)


def _each(
    budget: float, dice: random.Random, place: Path, act: Callable[[Rolling, random.Random, Code], None]
) -> Found:
    old, found, until = Code(earlier(place)), Found(), time.monotonic() + budget
    while not found.runs or time.monotonic() < until:
        site = Rolling(place / f"run{found.runs}", seed_of(dice), old)
        try:
            _begin(site)
            act(site, dice, old)
            _finish(site, found)
            assert site.layouts() > 1, "both codes wrote people under one head: nothing was upgraded"
            verdict(site).add_to(found)
            found.runs += 1
        finally:
            site.close()
    return found


def _begin(site: Site) -> None:
    site.start()
    site.write()
    site.let_through(FIRST)


def _finish(site: Site, found: Found) -> None:
    began = time.monotonic()
    site.recovered()
    found.recovery_s.append(time.monotonic() - began)
    site.let_through(MORE)
    site.rest()


def _over(site: Rolling, dice: random.Random, old: Code, new: Code = TODAY) -> None:
    for name in dice.sample(list(MODULES), len(MODULES)):
        site.replace(name, new, dice.choice(HOW))
        site.let_through(MORE)


def _overtake(site: Rolling, dice: random.Random, old: Code) -> None:
    site.overtake("engine", TODAY)
    site.let_through(MORE)
    for name in dice.sample(sorted(MODULES.keys() - {"engine"}), len(MODULES) - 1):
        site.replace(name, TODAY)


def _to_and_fro(site: Rolling, dice: random.Random, old: Code) -> None:
    _over(site, dice, old)
    site.recovered()
    _over(site, dice, old, new=old)


# -- with a vocabulary that gained something


def more_features(budget: float, dice: random.Random, place: Path) -> Found:
    """Today's code has an event type and features more; what of them is known is right, and a load brings the rest."""
    tree, (same, more) = earlier(place), domains(place)
    old, new = Code(tree, same), Code(ROOT, more)
    found, until = Found(), time.monotonic() + budget
    nulls = 0
    while not found.runs or time.monotonic() < until:
        site = Rolling(place / f"run{found.runs}", seed_of(dice), old)
        try:
            _begin(site)
            _over(site, dice, old, new)
            _finish(site, found)
            _of_known(site).add_to(found)
            nulls += _of_gained(site, new, found, loaded=False)
            _load(site, new)
            _of_gained(site, new, found, loaded=True)
            found.runs += 1
        finally:
            site.close()
    assert nulls, "nobody lacked anything of the new features: nothing was upgraded"
    return found


def _of_known(site: Rolling) -> Verdict:
    """As ever, but that it is left open how many of the new event were unknown: those that the old code worked."""
    found = verdict(site)
    with closing(connect(site.settings)) as client:
        counts, expected = made.counts(client, open_store(client)), _oracle(site, "").outcomes
    more = {name: counts.get(name, 0) - expected[name] for name in ("processed", "late", "unknown")}
    if more["unknown"] <= 0 <= min(more["processed"], more["late"]) and not sum(more.values()):
        found.lost.pop("counter unknown", None)
        for name in ("processed", "late"):
            found.doubled.pop(f"counter {name}", None)
    return found


def _oracle(site: Rolling, domain: str) -> Oracle:
    return told(((each.now, each.call) for each in site.tap.logged()), vocabulary(domain))


def _of_gained(site: Rolling, code: Code, found: Found, *, loaded: bool) -> int:
    """Adds what is wrong with the new features; how many values are null, as some may be until they were loaded."""
    oracle, knows, nulls = _oracle(site, code.domain), vocabulary(code.domain), 0
    with closing(connect(site.settings)) as client:
        for user in sorted(oracle.people):
            person, has = oracle.person(user), made.features(client, knows, user)
            person.pass_time(made.feature_time(client, VOCABULARY, user))
            must = gained(person)
            if not loaded:
                nulls += sum(has[name] is None for name in must)
                must = {name: value for name, value in must.items() if not _open(name, has[name], value)}
            for name, (value, expected) in unlike(has, must).items():
                found.lost += 1
                found.notes.setdefault(f"{user} {name}", f"{value}, expected {expected}, {loaded = }")
    return nulls


def _open(name: str, value: float | None, expected: float) -> bool:
    """Before a load: null, or of the new event less, since nobody knew it of people who were not known otherwise."""
    return value is None or (name == NEW_EVENT and value <= expected)


def _load(site: Rolling, code: Code) -> None:
    """As soon as the lake is where it must be for it."""
    deadline = time.monotonic() + PATIENCE_S
    while (done := site.run(code, "training", "backfill", "--load")).returncode:
        assert time.monotonic() < deadline, done.stderr
        time.sleep(0.5)
    site.recovered()


# -- as most upgrade: Ctrl-C, the new code, the same command


def started_anew(budget: float, dice: random.Random, place: Path) -> Found:
    """`telltale up` is ended, or killed, and started again from the other tree, and back, over the same home."""
    trees, found, until = (ROOT, earlier(place)), Found(), time.monotonic() + budget
    site = Plain(place / "site", seed_of(dice), trees[1])
    try:
        site.start()
        while not found.runs or time.monotonic() < until:
            site.write()
            site.let_through(FIRST)
            site.tree = trees[found.runs % 2]
            site.kill("up", dice.choice([signal.SIGINT, signal.SIGKILL]))
            site.end()
            site.begin()
            _finish(site, found)
            found.runs += 1
        verdict(site).add_to(found)
    finally:
        site.close()
    return found
