"""What a file of this room says of a model."""

from __future__ import annotations

import msgspec


class Training(msgspec.Struct, frozen=True, kw_only=True):
    """One model to train: its inputs are the service's, its label the service's outcome within the horizon.

    `budget`: alerts a year and active person that its threshold may open, at most. `rule`: points a unit of some
    features, the hand-written rule that the model must beat.
    """

    service: str
    budget: float
    rule: dict[str, float]
    horizon_days: int = 90
    trees: int = 60  # 100 rank no better, and the stream scores every touched person
    depth: int = 4
    learning_rate: float = 0.15
    rows_a_leaf: float = 30.0
    columns_a_tree: float = 0.6
    rows_a_tree: float = 0.8
    seed: int = 1
