"""How good forecasters were over time: each said its probability first, then the label came."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import msgspec

from flows.learners.odds import loss

UNIT = 100  # outcomes over which ranks are compared
MOST = 120  # blocks; beyond, neighbours become one


class Block(msgspec.Struct):
    """Sums over some outcomes in a row. `said`, `lost`, `ranked`: of each forecaster, in order.

    `ranked`: of `pairs` (one with the outcome, one without, of the same 100) those that it ranked rightly, ties half:
    ROC-AUC = ranked / pairs. `ends`: nothing after it is added to it, since something changed there.
    """

    first: int  # ms since 1970, when the label was told
    last: int
    rows: int
    hits: int
    said: list[float]
    lost: list[float]
    ranked: list[float]
    pairs: int
    ends: bool = False

    def __add__(self, other: Block) -> Block:
        return Block(
            min(self.first, other.first),
            max(self.last, other.last),
            self.rows + other.rows,
            self.hits + other.hits,
            _both(self.said, other.said),
            _both(self.lost, other.lost),
            _both(self.ranked, other.ranked),
            self.pairs + other.pairs,
            other.ends,
        )


def _both(mine: list[float], theirs: list[float]) -> list[float]:
    return [x + y for x, y in zip(mine, theirs, strict=True)]


class Progress(msgspec.Struct):
    """Blocks of outcomes, oldest first, bounded; `waiting`: outcomes of the block under way, as (label, *said)."""

    who: tuple[str, ...]
    size: int = UNIT  # outcomes a block
    blocks: list[Block] = []
    waiting: list[tuple[float, ...]] = []
    first: int = 0
    last: int = 0
    outcomes: int = 0
    hits: int = 0

    def tell(self, at: int, label: int, *said: float) -> None:
        """What each of `who` said of an outcome whose label was told at `at` (ms since 1970)."""
        if not self.waiting:
            self.first = at
        self.waiting.append((float(label), *map(float, said)))
        self.last = at
        self.outcomes += 1
        self.hits += label
        if len(self.waiting) >= UNIT:
            self._close(ends=False)

    def cut(self) -> None:
        """Something changed: what comes from now on is told apart."""
        if self.waiting:
            self._close(ends=True)
        elif self.blocks:
            self.blocks[-1].ends = True

    def all(self) -> list[Block]:
        """With the block under way."""
        return [*self.blocks, self._made(ends=False)] if self.waiting else self.blocks

    def figures(self) -> list[dict[str, object]]:
        """Each block in figures: JSON."""
        return [_figures(self.who, block) for block in self.all()]

    def total(self) -> dict[str, object]:
        """All outcomes in figures; empty where there are none."""
        blocks = self.all()
        return _figures(self.who, _sum(blocks)) if blocks else {}

    def between(self) -> list[dict[str, object]]:
        """Figures before the first change, between it and the next, and so on."""
        return [_figures(self.who, part) for part in _parts(self.all())]

    def _close(self, *, ends: bool) -> None:
        made = self._made(ends=ends)
        self.waiting = []
        open_ = bool(self.blocks) and not self.blocks[-1].ends and self.blocks[-1].rows + UNIT <= self.size
        self.blocks = [*self.blocks[:-1], self.blocks[-1] + made] if open_ else [*self.blocks, made]
        if len(self.blocks) > MOST:
            self.size *= 2
            self.blocks = _paired(self.blocks)

    def _made(self, *, ends: bool) -> Block:
        labels = [int(row[0]) for row in self.waiting]
        columns = [[row[k + 1] for row in self.waiting] for k in range(len(self.who))]
        lost = [sum(map(loss, labels, column), 0.0) for column in columns]
        hits = sum(labels)
        ranked = [_ranked(labels, column) for column in columns]
        span = (self.first, self.last, len(labels), hits)
        return Block(*span, [sum(c, 0.0) for c in columns], lost, ranked, hits * (len(labels) - hits), ends)


def _ranked(labels: Sequence[int], said: Sequence[float]) -> float:
    """Pairs of one with the outcome and one without in which the first has the higher probability; ties half."""
    found, below, hits, misses, last = 0.0, 0, 0, 0, -1.0
    for p, label in sorted(zip(said, labels, strict=True)):
        if p != last:
            found, below = found + hits * (below + misses / 2), below + misses
            hits, misses, last = 0, 0, p
        hits, misses = hits + label, misses + 1 - label
    return found + hits * (below + misses / 2)


def _paired(blocks: list[Block]) -> list[Block]:
    """Every two neighbours as one, but for those that something parts; the oldest two where nothing else could be."""
    made: list[Block] = []
    for block in blocks:
        joins = made and not made[-1].ends and made[-1].rows <= block.rows
        made = [*made[:-1], made[-1] + block] if joins else [*made, block]
    return made if len(made) < len(blocks) else [blocks[0] + blocks[1], *blocks[2:]]


def _sum(blocks: Sequence[Block]) -> Block:
    total = blocks[0]
    for block in blocks[1:]:
        total += block
    return total


def _figures(who: Sequence[str], of: Block) -> dict[str, object]:
    told: dict[str, object] = {
        "since": of.first,
        "until": of.last,
        "outcomes": of.rows,
        "positive": of.hits,
        "changed_after": of.ends,
    }
    for k, name in enumerate(who):
        told[name] = {
            "log_loss": of.lost[k] / of.rows,
            "predicted_over_observed": of.said[k] / of.hits if of.hits else None,
            "roc_auc": of.ranked[k] / of.pairs if of.pairs else None,
        }
    return told


def _parts(blocks: Sequence[Block]) -> list[Block]:
    """The sums between what changed: before the first change, between it and the next, and so on."""
    ends = [0, *(k + 1 for k, block in enumerate(blocks) if block.ends), len(blocks)]
    return [_sum(blocks[low:high]) for low, high in pairwise(dict.fromkeys(ends)) if high > low]
