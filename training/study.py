"""The study that every model is made and judged in: one simulated world, split by time and by people, and a second.

Between the end of one slice and the start of the next lie 90 days, the horizon, so that no label of one is decided
within the other:  90 days to fill the windows | train | gap | earlier | gap | later | the last labels' horizon.
"""

from __future__ import annotations

import msgspec
import numpy as np

from feature_repo.vocabulary import Vocabulary
from flows.plan import Plan
from training.backfill import Stream, stream
from training.dataset import Rows, Span, TooFew, label, rows
from training.examples import Examples
from training.people import YEAR, Array
from training.records import DAY
from training.simulate import History, simulate
from training.splits import Slices
from training.world import FIRST, SECOND, World

TRAIN = Span(90, 330)
EARLIER = Span(420, 510)  # for the sigmoid and the threshold
LATER = Span(600, 690)
DAYS = 780
SECOND_LATER = Span(180, 270)
SECOND_DAYS = 360


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """How many people, and which share of their scoring instants to train on; the rest is judged at every instant."""

    people: int = 60_000
    unseen: float = 0.25  # of the people: never trained on
    judged: int = 8_000  # people of each set that is judged
    share: float = 0.03
    seed: int = 1


class Sample(msgspec.Struct, frozen=True):
    """Rows of one set, and the history that they come from."""

    rows: Rows
    stream: Stream
    history: History
    vocabulary: Vocabulary
    active: int  # people with any activity of their own in the year before the set's end

    def label(self, outcome: str, horizon_days: int) -> Array:
        found = label(self.vocabulary, self.stream, outcome, self.rows, horizon_days)
        if found.all() or not found.any():
            raise TooFew(f"{outcome}: expected some of {len(found)} rows with it and some without; take more people")
        return found

    def best(self, outcome: str, horizon_days: int) -> Array:
        return self.history.best(self.rows.person, self.rows.at, outcome, horizon_days)

    def examples(self, outcome: str, horizon_days: int, inputs: Array) -> Examples:
        """The rows with this outcome as their label, and these columns of the features."""
        label, best = self.label(outcome, horizon_days), self.best(outcome, horizon_days)
        features = self.rows.features[:, inputs]
        own = (self.rows.person, self.rows.at, features, self.rows.sure, label)
        return Examples(*own, best=best, active=self.active)


class Study(msgspec.Struct, frozen=True):
    train: Sample
    earlier: Sample
    judged: dict[str, Sample]
    sizes: Sizes

    def slices(self, outcome: str, horizon_days: int, inputs: Array) -> Slices:
        """Raises TooFew."""
        train, between = (sample.examples(outcome, horizon_days, inputs) for sample in (self.train, self.earlier))
        held = {where: sample.examples(outcome, horizon_days, inputs) for where, sample in self.judged.items()}
        return Slices(train, between, held)


def study(vocabulary: Vocabulary, sizes: Sizes) -> Study:
    """All rows of a study; some minutes for 60,000 people."""
    first = _Source(vocabulary, FIRST, sizes.people, DAYS, sizes.seed)
    second = _Source(vocabulary, SECOND, sizes.judged, SECOND_DAYS, sizes.seed + 1)
    everybody = np.random.default_rng(sizes.seed).permutation(sizes.people)
    unseen, seen = np.split(everybody, [int(sizes.people * sizes.unseen)])
    return Study(
        first.sample(TRAIN, seen, sizes.share),
        first.sample(EARLIER, seen[: sizes.judged]),
        {
            "later time": first.sample(LATER, seen[: sizes.judged]),
            "unseen people": first.sample(LATER, unseen[: sizes.judged]),
            "second world": second.sample(SECOND_LATER, np.arange(sizes.judged)),
        },
        sizes,
    )


class _Source:
    """One simulated world's history, and samples of it."""

    def __init__(self, vocabulary: Vocabulary, world: World, people: int, days: int, seed: int) -> None:
        self._plan = Plan(vocabulary)
        self._history = simulate(people, days, seed, world)
        self._stream = stream(self._history, vocabulary)
        self._rng = np.random.default_rng((seed, 1))

    def sample(self, span: Span, people: Array, share: float = 1.0) -> Sample:
        vocabulary = self._plan.vocabulary
        these = rows(self._plan, self._stream, span, np.sort(people), share, self._rng)
        until = self._stream.start + span.until * DAY
        return Sample(these, self._stream, self._history, vocabulary, _active(vocabulary, self._stream, people, until))


def _active(vocabulary: Vocabulary, of: Stream, people: Array, until: int) -> int:
    """How many of the people did anything of their own in the year before."""
    own = {e.name for e in vocabulary.events if e.role == "behaviour" and e.by_person}
    codes = np.flatnonzero([code.event in own for code in vocabulary.codes])
    recent = (of.now < until) & (of.now >= until - YEAR * DAY) & np.isin(of.code, codes)
    return int(np.isin(people, of.person[recent]).sum())
