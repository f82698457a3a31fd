"""Scores and what came of them, drawn: a model that is right, until the world moves."""

from __future__ import annotations

import numpy as np

from flows.learners.example import Example

NAMES = ("value_checks", "downloads", "visits", "noise")
START = 1_767_225_600_000  # 2026-01-01
MINUTE = 60_000


def examples(
    n: int,
    seed: int,
    *,
    base: float = -2.0,
    shift: float = 0.0,
    slope: float = 1.0,
    since: int = START,
    flood: int | None = None,
    source: str = "sample",
) -> list[Example]:
    """`base`: mean log odds. Labels come with log odds `slope` * those of the model + `shift`; all `flood` if told."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, len(NAMES)))
    odds = base + features[:, :3] @ np.array([0.9, 0.6, -0.4])
    chance = 1 / (1 + np.exp(-(slope * odds + shift)))
    label = (rng.random(n) < chance).astype(int) if flood is None else np.full(n, flood)
    raw = 1 / (1 + np.exp(-odds))
    return [
        Example(
            id=f"ex-{seed}-{k}",
            organisation="main",
            user=f"u{k}",
            model="likely_to_sell",
            version="20260101000000",
            at=since + k * MINUTE,
            raw=float(raw[k]),
            score=float(raw[k]),
            features=tuple(map(float, features[k])),
            names=NAMES,
            source=source,  # type: ignore[arg-type]
            label=int(label[k]),
            label_at=since + k * MINUTE + 1,
        )
        for k in range(n)
    ]
