"""Online recalibration of one model version in one organisation: two numbers, and the gate that lets them hold.

River's logistic regression of the label with the model's log odds as a given offset, so that it begins as the model
itself: log odds + level + slope * (log odds - middle) + context. What travels is p = sigmoid(a * logit(raw) + b) with
the context at its mean, a = 1 + slope, b = level - slope * middle.
"""

from __future__ import annotations

from typing import Any

import msgspec
from river.linear_model import LogisticRegression
from river.utils import VectorDict
from xxhash import xxh64_intdigest

from flows.learners.drift import Alarm, Detectors, Seen
from flows.learners.evidence import Doubt, Evidence
from flows.learners.example import Calibration, Example, Place
from flows.learners.information import Information
from flows.learners.odds import bounded, logit, loss, sigmoid
from flows.learners.progress import Progress
from flows.learners.stored import packed, unpacked
from onnx_models.calibrations import SHIFT, SLOPE

KIND, FORMAT = "recalibration", 2
PRIOR = {"level": 4.0, "slope": 16.0, "delivered": 16.0, "weekend": 25.0}  # 1 / variance: of 0.5, 0.25, 0.25, 0.2
CONTEXT = ("delivered", "weekend")  # an alert that people were told of; scored on a Saturday or Sunday
MEMORY, QUICK = 500.0, 300.0  # outcomes that it goes by; for as many outcomes after a drift
FORGOTTEN = 0.1  # the share of what was known that a drift leaves
LEAST, EITHER = 200, 10  # outcomes before anything may hold, and of either label
EVERY = 50  # outcomes between two changes of what holds
STEPS = {"level": 0.5, "slope": 0.2}  # that one change may be, in log odds
WORTH = 0.05  # a smaller change is not made
PASSED = 10_000  # outcomes that came too early, by whose ids a correction finds them
CENTRE = 1 / 500  # share of each outcome in the middle and the contexts' means
RUN, SURPRISE = 15, 14.0  # outcomes of one label in a row, and their nats, which no chance explains: 1 in a million
ONE_SIDED = "one_sided"
_DAY = 86_400_000
WHO = ("champion", "recalibrated", "with context", "as told")


class Numbers(msgspec.Struct, frozen=True):
    """`level`: log odds added at the model's `middle` log odds; `slope`: added for each log odds beyond."""

    level: float = 0.0
    slope: float = 0.0
    middle: float = 0.0

    @property
    def a(self) -> float:
        return 1.0 + self.slope

    @property
    def b(self) -> float:
        return _clipped(self.level - self.slope * self.middle, SHIFT)  # beyond by no more than a rounding

    def probability(self, odds: float) -> float:
        return sigmoid(self.a * odds + self.b)

    def within(self) -> Numbers:
        """Within the bounds of a and b: what has to give is the slope, since the level decides how many there are."""
        level = min(max(self.level, -SHIFT), SHIFT)
        low, high = SLOPE[0] - 1.0, SLOPE[1] - 1.0
        if self.middle:
            ends = sorted(((level - SHIFT) / self.middle, (level + SHIFT) / self.middle))
            low, high = max(low, ends[0]), min(high, ends[1])
        return Numbers(level, min(max(self.slope, low), high), self.middle)

    def towards(self, other: Numbers) -> Numbers:
        """One step of at most STEPS, from the same line at the other's middle."""
        here = self.level + self.slope * (other.middle - self.middle)
        level = here + _clipped(other.level - here, STEPS["level"])
        slope = self.slope + _clipped(other.slope - self.slope, STEPS["slope"])
        return Numbers(level, slope, other.middle).within()

    def apart(self, other: Numbers) -> float:
        """The most that the two differ around the middle, in log odds."""
        here = self.level + self.slope * (other.middle - self.middle)
        return max(abs(other.level - here), abs(other.slope - self.slope))


def _clipped(value: float, most: float) -> float:
    return min(max(value, -most), most)


class Run(msgspec.Struct):
    """Outcomes of one label in a row. `nats`: how surprising; `gain`: what they added to the evidence."""

    label: int = 0
    length: int = 0
    nats: float = 0.0
    gain: float = 0.0

    @property
    def suspicious(self) -> bool:
        return self.length >= RUN and self.nats >= SURPRISE


class Kept(msgspec.Struct):
    """All but weights and detectors. `holding`: the numbers that hold; None: the model's own.

    `ahead`: that the numbers learned are better than the model, and `worse`: that those that hold are worse, as of the
    label; `late`: that scores were worse which were told by these, `since` (ms) they hold: a lesson may be right and
    come too late. decisions.md has why.
    `ended`: sources of which a horizon is over: before that, conversions would be all there is.
    `passed`: xxh64 of the ids of those that came so early and were not learned; the latest.
    """

    progress: Progress
    middle: float = 0.0
    weight: float = 0.0
    means: dict[str, float] = msgspec.field(default_factory=lambda: dict.fromkeys(CONTEXT, 0.0))
    ahead: Evidence = msgspec.field(default_factory=Evidence)
    late: Doubt = msgspec.field(default_factory=Doubt)
    worse: Doubt = msgspec.field(default_factory=Doubt)
    holding: Numbers | None = None
    why: str = ""
    learned: int = 0
    hits: int = 0
    changed_at: int = 0
    since: int = 0
    quick_until: int = 0
    ended: list[str] = []
    passed: list[int] = []
    run: Run = msgspec.field(default_factory=Run)
    one_sided: list[Alarm] = []
    early: int = 0
    corrected: int = 0
    fell_back: int = 0


class State(msgspec.Struct):
    """As it is stored."""

    weights: dict[str, float]
    information: dict[str, float]
    memory: float
    kept: Kept
    detectors: Seen


class Recalibration:
    """The learner; see the top of the file."""

    def __init__(self, place: Place) -> None:
        self._optimizer = Information(PRIOR, MEMORY)
        self._model = _river(self._optimizer, dict.fromkeys(PRIOR, 0.0))
        self._detectors = Detectors()
        self.kept = Kept(Progress(WHO))

    # -- what it says

    def numbers(self) -> Numbers:
        """What it has learned, within the bounds."""
        weights = self._model._weights  # noqa: SLF001  # `weights` is a copy
        return Numbers(weights["level"], weights["slope"], self.kept.middle).within()

    def predict(self, example: Example) -> float | None:
        """By the two numbers that it has learned, whether they hold or not."""
        return self.numbers().probability(logit(example.raw))

    def calibration(self) -> Calibration | None:
        holds = self.kept.holding
        return Calibration(holds.a, holds.b, self.kept.why) if holds else None

    # -- what it learns

    def learn(self, example: Example) -> None:
        if example.was is not None:
            self._correct(example)
            return
        kept, odds = self.kept, logit(example.raw)
        now = self.numbers().probability(odds)
        context = self._context(example, odds)
        full = self._said(context, odds)
        said = now if example.predicted is None else example.predicted
        kept.progress.tell(example.label_at, example.label, example.raw, said, full, example.score)
        self._in_a_row(example, now)
        if self._too_early(example):
            kept.early += 1
            kept.passed.append(xxh64_intdigest(example.id.encode()))
            del kept.passed[:-PASSED]
            return
        self._judge(example, odds, now)
        if self._detectors.tell(example.label, example.raw, example.label_at):
            self._forget()
        self._step(context, odds, full, example.label)
        self._gate(example.label_at)

    def _context(self, example: Example, odds: float) -> dict[str, float]:
        """What River is given: deviations from the means so far."""
        given, means = _given(example), self.kept.means
        off = {name: given[name] - means[name] for name in means}
        return {"level": 1.0, "slope": odds - self.kept.middle if self.kept.weight else 0.0} | off

    def _said(self, context: dict[str, float], odds: float) -> float:
        self._model.intercept = odds
        return bounded(float(self._model.predict_proba_one(context)[True]))

    def _too_early(self, example: Example) -> bool:
        """Until a horizon of its source is over; a 0 that somebody tells before is as if chosen, and ends nothing."""
        ended, over = self.kept.ended, example.label_at >= example.until
        if not example.label and over and example.source not in ended:
            self.kept.ended = sorted([*ended, example.source])
        return example.source not in self.kept.ended

    def _in_a_row(self, example: Example, now: float) -> None:
        """Floods: no evidence comes from them, and the first to be one is told."""
        kept, run = self.kept, self.kept.run
        if run.label != example.label:
            kept.run = run = Run(example.label)
        was = run.suspicious
        run.length += 1
        run.nats += loss(example.label, now)
        if not run.suspicious:
            return
        if not was:
            kept.ahead.nats -= run.gain
            alarm = Alarm([ONE_SIDED], example.label_at, example.label_at, kept.learned, now, float(run.label))
            kept.one_sided = [*kept.one_sided, alarm][-10:]
        kept.one_sided[-1].last, kept.one_sided[-1].times = example.label_at, run.length

    def _judge(self, example: Example, odds: float, now: float) -> None:
        kept, label = self.kept, example.label
        if kept.run.suspicious:
            return
        own = loss(label, example.raw)
        gain = own - loss(label, now)
        kept.run.gain += gain
        kept.ahead.add(gain)
        if kept.holding:
            kept.worse.add(loss(label, kept.holding.probability(odds)) - own)
            if example.calibration and example.at >= kept.since:
                kept.late.add(loss(label, example.score) - own)

    def _step(self, context: dict[str, float], odds: float, full: float, label: int) -> None:
        kept = self.kept
        self._optimizer.memory = QUICK if kept.learned < kept.quick_until else MEMORY
        self._optimizer.see(context, full)
        self._model.intercept = odds
        self._model.learn_one(context, bool(label))
        self._bound()
        self._centre(context, odds, full)
        kept.learned += 1
        kept.hits += label

    def _bound(self) -> None:
        weights = self._model._weights  # noqa: SLF001  # `weights` is a copy
        weights["level"] = _clipped(weights["level"], SHIFT)
        weights["slope"] = min(max(weights["slope"], SLOPE[0] - 1.0), SLOPE[1] - 1.0)

    def _centre(self, context: dict[str, float], odds: float, full: float) -> None:
        """The middle where outcomes teach most, so that level and slope are learned apart; the line stays."""
        kept = self.kept
        fisher = full * (1.0 - full)
        kept.weight = (1.0 - CENTRE) * kept.weight + fisher
        moved = fisher / kept.weight * (odds - kept.middle)
        weights = self._model._weights  # noqa: SLF001
        weights["level"] += weights["slope"] * moved
        kept.middle += moved
        share = max(CENTRE, 1.0 / (kept.learned + 1))
        kept.means = {name: mean + share * context[name] for name, mean in kept.means.items()}

    def _forget(self) -> None:
        self._optimizer.forget(FORGOTTEN)
        self.kept.quick_until = self.kept.learned + int(QUICK)
        self.kept.progress.cut()

    def _correct(self, example: Example) -> None:
        """The step that the wrong label led to, if any, back; that of the right one. Figures, evidence stay as told."""
        kept, of = self.kept, xxh64_intdigest(example.id.encode())
        kept.corrected += 1
        if example.was == example.label or self._too_early(example):
            return
        odds = logit(example.raw)
        context = self._context(example, odds)
        if of in kept.passed:
            kept.passed.remove(of)
            self._step(context, odds, self._said(context, odds), example.label)
            return
        for label, weight in ((example.was, -1.0), (example.label, 1.0)):
            self._model.intercept = odds
            self._model.learn_one(context, bool(label), w=weight)
        self._bound()

    # -- what may hold

    def _gate(self, at: int) -> None:
        kept = self.kept
        if kept.holding and (kept.worse.enough or kept.late.enough):
            self._fall_back()
        due = kept.learned - kept.changed_at >= EVERY and not kept.run.suspicious
        if not due or min(kept.hits, kept.learned - kept.hits) < EITHER or kept.learned < LEAST:
            return
        if kept.holding is None:
            if kept.ahead.nats - kept.run.gain < kept.ahead.bar:
                return
            kept.why = (
                f"better by {kept.ahead.nats:.1f} nats over {kept.ahead.outcomes} outcomes, {kept.ahead.bar:.1f} wanted"
            )
            kept.since, kept.late, kept.worse = at, Doubt(), Doubt()
        self._move()

    def _move(self) -> None:
        kept, learned = self.kept, self.numbers()
        here = kept.holding or Numbers(middle=learned.middle)
        if here.apart(learned) >= WORTH:
            kept.holding, kept.changed_at = here.towards(learned), kept.learned

    def _fall_back(self) -> None:
        kept = self.kept
        kept.holding, kept.changed_at, kept.why = None, kept.learned, ""
        kept.fell_back += 1
        kept.ahead.again()

    # -- what it keeps

    def state(self) -> bytes:
        optimizer = self._optimizer
        state = State(
            dict(self._model.weights), optimizer.information, optimizer.memory, self.kept, self._detectors.seen()
        )
        return packed(KIND, FORMAT, state)

    def restore(self, state: bytes) -> None:
        found = unpacked(state, KIND, FORMAT, State)
        if set(found.weights) != set(PRIOR) or found.kept.progress.who != WHO:
            raise ValueError(f"expected weights {sorted(PRIOR)}, got {sorted(found.weights)[:10]}")
        self._detectors = Detectors.of(found.detectors)
        self._optimizer = Information(PRIOR, found.memory)
        self._optimizer.information = found.information
        self._model = _river(self._optimizer, found.weights)
        self.kept = found.kept

    def report(self) -> dict[str, object]:
        kept, learned = self.kept, self.numbers()
        return {
            "outcomes": kept.progress.outcomes,
            "positive": kept.progress.hits,
            "learned": {"a": learned.a, "b": learned.b, "weights": dict(self._model.weights)},
            "holds": msgspec.to_builtins(self.calibration()),
            "evidence": {"nats": kept.ahead.nats, "wanted": kept.ahead.bar, "outcomes": kept.ahead.outcomes},
            "alarms": msgspec.to_builtins([*self._detectors.alarms, *kept.one_sided]),
            "one_sided_now": kept.run.suspicious,
            "too_early": kept.early,
            "corrected": kept.corrected,
            "fell_back": kept.fell_back,
            "total": kept.progress.total(),
            "between_changes": kept.progress.between(),
            "progress": kept.progress.figures(),
        }


def _given(example: Example) -> dict[str, float]:
    weekday = (example.at // _DAY + 3) % 7  # 1970 began on a Thursday
    delivered = example.source == "alert" and not example.withheld
    return {"delivered": float(delivered), "weekend": float(weekday >= 5)}


def _river(optimizer: Information, weights: dict[str, float]) -> Any:
    """Its intercept is the offset of the example at hand, and is not learned."""
    model: Any = LogisticRegression(optimizer=optimizer, intercept_lr=0.0)
    model._weights = VectorDict(dict(weights))  # noqa: SLF001  # River has no way to begin from weights
    return model
