"""Whether a model's errors changed, by River's ADWIN (Bifet and Gavalda, 2007) and Page-Hinkley (Page, 1954)."""

from __future__ import annotations

from hashlib import sha256
from math import sqrt
from typing import Any

import msgspec
from river import drift

from flows.learners.example import Example, Place
from flows.learners.odds import bounded
from flows.learners.stored import packed, unpacked

RIVER: Any = drift  # which has types in part
KEPT = 50  # alarms
SAME = 500  # outcomes within which a further alarm belongs to the change that was seen already
STEEPEST = 10.0  # standard deviations that one error may count for
RECENT, SPREAD = 1 / 100, 1 / 500  # share of each outcome in the recent mean, in the errors' variance
_PAGE_HINKLEY = ("_sum_increase", "_sum_decrease", "_min_increase", "_max_decrease")


class Alarm(msgspec.Struct):
    """A change: `first`, `last` (ms since 1970) seen, by which detectors, after how many outcomes.

    `before`, `after`: the mean error (label - probability) on either side, which tell its size.
    """

    by: list[str]
    first: int
    last: int
    outcome: int
    before: float
    after: float
    times: int = 1


class Seen(msgspec.Struct):
    """`adwin`: the bytes in which River's window is kept; all else numbers. `page_hinkley`: n, mean, then its sums."""

    adwin: bytes
    seal: bytes
    page_hinkley: list[float]
    fired: tuple[bool, bool]
    outcomes: int
    recent: float
    spread: float
    alarms: list[Alarm]


class Detectors:
    """Two detectors on one stream of errors, and the alarms that they raised."""

    def __init__(self) -> None:
        self.adwin = RIVER.ADWIN(delta=0.002)
        self.page_hinkley = RIVER.PageHinkley(min_instances=100, delta=0.05, threshold=45.0)
        self.alarms: list[Alarm] = []
        self.outcomes, self.recent, self.spread = 0, 0.0, 1.0

    def tell(self, label: int, probability: float, at: int) -> bool:
        """Whether a change was seen that was not seen before.

        ADWIN takes label - probability; Page-Hinkley takes it in standard deviations, those that came about where they
        are larger, so that its threshold does not depend on how rare the outcome is, or how wrong the model.
        """
        p = bounded(probability)
        error = label - p
        scaled = min(max(error / sqrt(p * (1.0 - p)), -STEEPEST), STEEPEST)
        self.spread += SPREAD * (scaled * scaled - self.spread)
        width, total = self.adwin.width, self.adwin.total
        mean = self.adwin.estimation
        self.adwin.update(error)
        self.page_hinkley.update(scaled / sqrt(max(self.spread, 1.0)))
        self.outcomes += 1
        self.recent += RECENT * (error - self.recent)
        fresh = False
        if self.adwin.drift_detected:
            dropped = width + 1 - self.adwin.width
            before = (total + error - self.adwin.total) / dropped if dropped else mean
            fresh = self._alarm("adwin", at, before)
        if self.page_hinkley.drift_detected:
            fresh = self._alarm("page_hinkley", at, mean) or fresh
        if self._lately():
            self.alarms[-1].after = self.recent  # when it was seen first, few errors were new
        return fresh

    def _lately(self) -> bool:
        return bool(self.alarms) and self.outcomes - self.alarms[-1].outcome <= SAME

    def _alarm(self, by: str, at: int, before: float) -> bool:
        if self._lately():
            last = self.alarms[-1]
            last.by, last.last, last.times = sorted({*last.by, by}), at, last.times + 1
            return False
        self.alarms = [*self.alarms, Alarm([by], at, at, self.outcomes, before, self.recent)][-KEPT:]
        return True

    def seen(self) -> Seen:
        kept = bytes(self.adwin._helper.__getstate__())  # noqa: SLF001  # River has no public way
        mean = self.page_hinkley._x_mean  # noqa: SLF001
        sums = [mean.n, mean.get(), *(float(getattr(self.page_hinkley, name)) for name in _PAGE_HINKLEY)]
        fired = (bool(self.adwin.drift_detected), bool(self.page_hinkley.drift_detected))
        return Seen(kept, sha256(kept).digest(), sums, fired, self.outcomes, self.recent, self.spread, self.alarms)

    @classmethod
    def of(cls, seen: Seen) -> Detectors:
        """Raises ValueError for a window that was changed: River would die of it."""
        if sha256(seen.adwin).digest() != seen.seal or len(seen.page_hinkley) != 2 + len(_PAGE_HINKLEY):
            raise ValueError("expected the detectors as they were kept, got others")
        made = cls()
        made.adwin._helper.__setstate__(seen.adwin)  # noqa: SLF001
        mean = made.page_hinkley._x_mean  # noqa: SLF001
        mean.n, mean._mean = seen.page_hinkley[:2]  # noqa: SLF001
        for name, value in zip(_PAGE_HINKLEY, seen.page_hinkley[2:], strict=True):
            setattr(made.page_hinkley, name, value)
        made.adwin._drift_detected, made.page_hinkley._drift_detected = seen.fired  # noqa: SLF001
        made.outcomes, made.recent, made.spread, made.alarms = seen.outcomes, seen.recent, seen.spread, seen.alarms
        return made


class Drift:
    """Of one model, over all its versions and organisations: whether its errors changed. Predicts nothing."""

    def __init__(self, place: Place) -> None:
        self.detectors = Detectors()

    def predict(self, example: Example) -> float | None:
        return None

    def learn(self, example: Example) -> None:
        if example.was is None:  # a change is not taken back by a correction
            self.detectors.tell(example.label, example.raw, example.label_at)

    def state(self) -> bytes:
        return packed("drift", 1, self.detectors.seen())

    def restore(self, state: bytes) -> None:
        self.detectors = Detectors.of(unpacked(state, "drift", 1, Seen))

    def report(self) -> dict[str, object]:
        return {
            "outcomes": self.detectors.outcomes,
            "mean_error": self.detectors.adwin.estimation,
            "window": self.detectors.adwin.width,
            "alarms": msgspec.to_builtins(self.detectors.alarms),
        }
