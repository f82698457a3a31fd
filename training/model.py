"""What a file of this room says of a model."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pyarrow as pa

from onnx_models.card import Recommendation


class Label(msgspec.Struct, frozen=True, kw_only=True):
    """What is predicted: one of `events` comes within the horizon after the instant (with `absent`: none).

    Without `events` it is the service's outcome. `at`: asked at these events alone (a mail's sending); empty: at each
    instant at which the stream scores. `among_days`: asked only of those of whom one of `events` came within so many
    days before; 0: of all. A file of labels says it instead, 0 or 1, in its `column`.
    """

    horizon_days: int = 90
    events: tuple[str, ...] = ()
    absent: bool = False
    at: tuple[str, ...] = ()
    among_days: int = 0
    column: str = "label"


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """Trees to try: boosted one after another, or, with `forest`, grown side by side and averaged.

    `rows_a_leaf`: at least (a row weighs p (1 - p) x 10). `columns`, `rows`: the share that each tree sees; of a
    forest, `columns` is that of each split. `search`: values to try of these fields, within the model's `Search`.
    `monotone`: of each input 1 where the score may only rise with it, -1 only fall, 0 both; the model's file says it.
    """

    name: str
    forest: bool = False
    trees: int = 60  # 100 rank no better, and the stream scores every touched person
    depth: int = 4
    learning_rate: float = 0.15
    rows_a_leaf: float = 30.0
    columns: float = 0.6
    rows: float = 0.8
    search: dict[str, tuple[float, ...]] = {}
    monotone: tuple[int, ...] = ()

    def with_(self, values: dict[str, float]) -> Candidate:
        """Itself with some fields set."""
        whole = {name: int(value) if name in ("trees", "depth") else value for name, value in values.items()}
        return msgspec.structs.replace(self, **whole)


BOOSTED = Candidate(
    name="boosted trees",
    search={
        "depth": (3, 4, 5),
        "learning_rate": (0.05, 0.08, 0.12, 0.15, 0.2),
        "rows_a_leaf": (10.0, 30.0, 100.0),
        "columns": (0.4, 0.6, 0.8, 1.0),
        "rows": (0.6, 0.8, 1.0),
    },
)
FOREST = Candidate(
    name="random forest",
    forest=True,
    trees=100,
    depth=8,
    columns=0.3,
    rows=0.63,
    rows_a_leaf=10.0,
    search={
        "depth": (6, 8, 10),
        "rows_a_leaf": (3.0, 10.0, 30.0),
        "columns": (0.2, 0.3, 0.5),
        "rows": (0.5, 0.63, 0.8),
    },
)


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """How much may be spent on the candidates' settings: at most `trials` in all, none begun after `seconds`."""

    trials: int = 12
    seconds: float = 60.0
    folds: int = 3
    rows: int = 60_000  # that a trial learns from, at most; the chosen settings learn from all


class Gates(msgspec.Struct, frozen=True, kw_only=True):
    """What a version must reach on the held-out rows before anything may be scored with it.

    `no_worse`: how far below the serving version's its ROC-AUC may lie, on the same rows. `beats_rule`: its PR-AUC
    is not below the hand-written rule's. `us_a_row`: in slices, on one core.
    """

    roc_auc: float = 0.6
    brier_skill: float = 0.0
    calibration_error: float = 0.1
    slope: tuple[float, float] = (0.5, 2.0)
    beats_rule: bool = True
    no_worse: float = 0.01
    us_a_row: float = 10.0


class Training(msgspec.Struct, frozen=True, kw_only=True):
    """One model to train: its inputs are the service's.

    `rule`: points a unit of some inputs, the hand-written rule that it must beat. `candidates`: the best by `metric`
    (one of `judge.METRICS`) in cross-validation is taken. `budget`: alerts a year and active person that its threshold
    may open, 0 where it opens none; `least`: the least threshold. `cases`: each entity is one case with one outcome.
    `telling`: inputs that may reach a ROC-AUC of 0.85 alone, for a reason that stands beside them. `rises`, `falls`:
    inputs with which the score, all else equal, may only rise, or fall: what everybody knows need not be learnt, and
    holds beyond what was seen. `recommendations`: the first that is reached holds. `simulated`: (people, seed) -> rows
    as a file of labels has them, with every input, and the chance of the label given all that is hidden as `best`;
    None: it learns from `study.py`'s world.
    """

    service: str
    entity: str = "user"
    label: Label = Label()
    rule: dict[str, float] = {}
    candidates: tuple[Candidate, ...] = (BOOSTED,)
    search: Search = Search()
    metric: str = "PR-AUC"
    gates: Gates = Gates()
    budget: float = 0.0
    least: float = 0.5
    cases: bool = False
    telling: tuple[str, ...] = ()
    rises: tuple[str, ...] = ()
    falls: tuple[str, ...] = ()
    recommendations: tuple[Recommendation, ...] = ()
    simulated: Callable[[int, int], pa.Table] | None = None
    seed: int = 1

    @property
    def horizon_days(self) -> int:
        return self.label.horizon_days
