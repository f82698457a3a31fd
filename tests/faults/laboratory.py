"""Runs faults one after another, judges after each, and writes the report as it grows."""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import redis

from flows.resp import StoreError
from serving.complaint import Complaint
from tests.bench.environments import Missing
from tests.faults.catalogue import ALONE, CUT, ON_A_SITE, SOAK, Alone
from tests.faults.found import Found, Lacking, Row, row
from tests.faults.judge import Verdict, verdict
from tests.faults.site import OnSite, Site
from tests.faults.trouble import Trouble, missing

WRONG = (AssertionError, Complaint, StoreError, redis.RedisError, OSError)  # what a fault may end with; others go on
WHOLE_S = 900.0  # that all faults take at least, each once
SETTLE_S = 3.0  # what judging a fault takes, about
FEW, MANY = 1, 500  # runs of a fault


class Laboratory:
    """`seconds`: that all faults together take, about; each at least once."""

    def __init__(self, seed: int, seconds: float, out: Path, *, keep: bool = False) -> None:
        self._seed, self._seconds, self._out, self._keep = seed, seconds, out, keep
        self._rows: list[Row] = []
        self._site: Site | None = None
        self._place: Path | None = None
        self._before = Verdict(0)

    def run(self, names: Sequence[str]) -> list[Row]:
        """All faults, the cut where there are only some minutes, or those with one of `names` in theirs."""
        known = (*ON_A_SITE, *ALONE) if names or self._seconds >= WHOLE_S else CUT
        wanted = [name for name in known if not names or any(part in name for part in names)]
        try:
            for name, share in self._shares(wanted):
                self._add(self._one(name, max(share - SETTLE_S, 0.0)))
        finally:
            self._leave(broken=False)
        return self._rows

    def _shares(self, wanted: Sequence[str]) -> Iterator[tuple[str, float]]:
        """Each fault and its seconds: half of all are the soak's, the others share what is left."""
        others = [name for name in wanted if name != SOAK]
        soak = self._seconds / (2 if others else 1)
        deadline = time.monotonic() + self._seconds - (soak if SOAK in wanted else 0)
        for i, name in enumerate(others):
            yield name, (deadline - time.monotonic()) / (len(others) - i)
        if SOAK in wanted:
            yield SOAK, soak

    def _add(self, found: Row) -> None:
        self._rows.append(found)
        self._out.write_bytes(msgspec.json.format(msgspec.json.encode(self._rows)))
        held = "skipped" if found.skipped else "held" if found.holds else "DID NOT HOLD"
        sys.stdout.write(f"{held:12} {found.fault}: {found.runs} runs, {found.events} events {found.broken}\n")
        sys.stdout.flush()

    def _one(self, name: str, budget: float) -> Row:
        dice = random.Random(f"{self._seed} {name}")
        if name in ALONE:
            self._leave(broken=False)
            return self._alone(name, ALONE[name], budget, dice)
        if lacks := missing():
            return row(name, self._seed, Found(), skipped=lacks)
        return self._on_site(name, ON_A_SITE[name], budget, dice)

    def _alone(self, name: str, fault: Alone, budget: float, dice: random.Random) -> Row:
        place, found = Path(tempfile.mkdtemp(prefix="telltale-faults-")), row(name, self._seed, Found())
        try:
            found = row(name, self._seed, fault(budget, dice, place))
        except (Lacking, Missing) as lacks:
            found = row(name, self._seed, Found(), skipped=str(lacks))
        except WRONG as error:
            found = row(name, self._seed, Found(), broken=str(error) or repr(error))
        self._clear(place, broken=not found.holds)
        return found

    def _on_site(self, name: str, fault: OnSite, budget: float, dice: random.Random) -> Row:
        found, broken = Found(), ""
        try:
            site = self._running()
            site.write()
            until = time.monotonic() + budget
            while found.runs < FEW or (time.monotonic() < until and found.runs < MANY):
                site.let_through()
                began = fault(site, dice)
                site.recovered()
                found.recovery_s.append(time.monotonic() - began)
                found.runs += 1
            site.rest()
            broken = self._judged(site, found)
        except WRONG as error:
            broken = str(error) or repr(error)
        if broken:
            self._leave(broken=True)
        return row(name, self._seed, found, broken=broken)

    def _judged(self, site: Site, found: Found) -> str:
        now = verdict(site)
        found.events = now.events - self._before.events
        found.lost, found.doubled, found.phantom = len(now.lost), len(now.doubled), len(now.phantom)
        self._before = now
        return str(now)

    def _running(self) -> Site:
        """The site that faults share; a new one after it broke."""
        if self._site is None:
            self._place = Path(tempfile.mkdtemp(prefix="telltale-faults-"))
            self._site = Site(self._place, self._seed, Trouble(self._place))
            self._before = Verdict(0)
            self._site.start()
        return self._site

    def _leave(self, *, broken: bool) -> None:
        site, place, self._site, self._place = self._site, self._place, None, None
        if site is not None:
            try:
                site.close()
            except WRONG as error:
                sys.stdout.write(f"at the end: {error}\n")
        if place is not None:
            self._clear(place, broken=broken)

    def _clear(self, place: Path, *, broken: bool) -> None:
        if broken and self._keep:
            sys.stdout.write(f"kept: {place}\n")
        else:
            shutil.rmtree(place, ignore_errors=True)
