"""The model as every contender asks it: 512 rows at a time, one thread. It imports nothing that only ours has."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnxruntime

SLICE = 512


class Scorer:
    """`scores(rows float32 (n, 24)) -> float32 (n,)`; `rows` counts those scored, `total` adds up their counts."""

    def __init__(self, file: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        self.rows, self.total, self.highest = 0, 0.0, 0.0

    def scores(self, rows: np.ndarray) -> np.ndarray:
        parts = [rows[low : low + SLICE] for low in range(0, len(rows), SLICE)]
        found = [self._session.run(["probabilities"], {"X": part})[0][:, 1] for part in parts]
        scores = np.concatenate(found) if found else np.zeros(0, np.float32)
        self.rows += len(rows)
        self.total += float(rows.sum())
        self.highest = max(self.highest, float(scores.max(initial=0.0)))  # the null sink: looked at, kept nowhere
        return scores


def tell(lines: int, seconds: float, scorer: Scorer) -> None:
    """What a contender prints: one line."""
    sys.stdout.write(f"{lines} {seconds} {scorer.rows} {scorer.total}\n")
