"""One workload for all: JSON lines of people's events, and a model of their counts.

A line: `{"user": "user-0001234", "event": "session", "ts": 1772323200000}`; 12 event types, 100 k people, Zipf 1.05,
36 h of event time, 2 % of the lines up to six hours late. The model: 100 trees over 24 features, each type's count over
the trailing hour and the trailing 24 hours.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.bench.filled import zipf

TYPES = tuple(f"event_{i:02d}" for i in range(12))
PEOPLE = 100_000
HOURS = 36
START = 1_772_323_200_000  # 2026-03-01
LATE = 0.02
SEED = 7


def write_lines(file: Path, n: int) -> None:
    """`n` lines in the order in which they come."""
    rng = np.random.default_rng(SEED)
    who, what = zipf(PEOPLE, 1.05, n, rng), rng.integers(0, len(TYPES), n)
    at = START + np.linspace(0, HOURS * 3_600_000 - 1, n).astype(np.int64)
    late = rng.random(n) < LATE
    at[late] -= rng.integers(0, 6 * 3_600_000, int(late.sum()))
    columns = zip(who.tolist(), what.tolist(), np.maximum(at, START).tolist(), strict=True)
    with file.open("w") as out:
        out.writelines(f'{{"user": "user-{u:07d}", "event": "{TYPES[k]}", "ts": {ts}}}\n' for u, k, ts in columns)


def write_part(lines: Path, part: Path, share: int) -> None:
    """The lines of each `share`-th person."""
    with lines.open("rb") as file, part.open("wb") as out:
        out.writelines(line for line in file if int(line[15:22]) % share == 1)


def write_model(file: Path) -> None:
    """100 trees of depth 3, learned on counts as they come."""
    from skl2onnx import to_onnx  # a second and a half, which nobody who counts needs
    from sklearn.ensemble import GradientBoostingClassifier

    rng = np.random.default_rng(SEED)
    day = rng.poisson(rng.gamma(0.5, 4.0, (20_000, 1)), (20_000, len(TYPES)))
    rows = np.hstack((rng.binomial(day, 0.1), day)).astype(np.float32)
    likely = 1 / (1 + np.exp(3 - rows[:, :4].sum(1) - 0.2 * rows[:, 12:16].sum(1)))
    model = GradientBoostingClassifier(n_estimators=100, random_state=SEED).fit(rows, rng.random(len(rows)) < likely)
    graph = to_onnx(model, rows[:1], options={id(model): {"zipmap": False}})
    file.write_bytes(graph.SerializeToString())
