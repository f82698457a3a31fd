"""The pictures of a model's card: ROC, calibration, importance, scores. Small PNGs, drawn without a display."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import roc_curve

from training.people import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZE, DPI = (5.2, 4.0), 90
COLORS = 96  # of a picture: a third of the bytes, and none is missed
SHOWN = 15  # inputs, at most
POINTS = 200  # of a curve
BINS = 10  # of as many rows each, in the calibration
_INK, _OURS, _PALE, _OTHERS = "#333333", "#1f5fa8", "#c9d6e6", ("#c7663b", "#6b8f3c", "#8a6bb0", "#888888")
FILES = ("roc.png", "calibration.png", "importance.png", "scores.png")


def draw(place: Path, label: Array, scores: Mapping[str, Array], importance: Mapping[str, float], cut: float) -> None:
    """All of FILES into `place`. `scores`: on the rows kept aside, by who; the first is the model's own."""
    from PIL import Image

    ours = next(iter(scores.values()))
    figures = (roc(label, scores), calibration(label, ours), inputs(importance), distribution(label, ours, cut))
    for name, figure in zip(FILES, figures, strict=True):
        drawn = BytesIO()
        figure.savefig(drawn, dpi=DPI, metadata={"Software": None})
        Image.open(drawn).convert("RGB").quantize(COLORS).save(place / name, optimize=True)


def roc(label: Array, scores: Mapping[str, Array]) -> Figure:
    figure, axes = _figure(
        "ROC: how many it finds, by how many it names wrongly", "of those without the outcome", "of those with it"
    )
    axes.plot((0, 1), (0, 1), color=_PALE, linewidth=1)
    for (who, score), color in zip(scores.items(), (_OURS, *_OTHERS), strict=False):
        wrong, right, _ = roc_curve(label, score)
        some = np.unique(np.linspace(0, len(wrong) - 1, POINTS).astype(int))
        auc = np.trapezoid(right, wrong)
        width = 2 if color == _OURS else 1.2
        axes.plot(wrong[some], right[some], color=color, linewidth=width, label=f"{who} ({auc:.3f})")
    axes.set(xlim=(0, 1), ylim=(0, 1.01))
    axes.legend(loc="lower right", frameon=False, fontsize=8, title="ROC-AUC", title_fontsize=8)
    return figure


def calibration(label: Array, score: Array) -> Figure:
    """Of ten groups of as many rows, the score said against the share that came."""
    figure, axes = _figure(
        "Calibration: what was said, and what came", "mean score of a tenth of the rows", "share with the outcome"
    )
    parts = [part for part in np.array_split(np.argsort(score, kind="stable"), BINS) if len(part)]
    said, came = (np.array([of[part].mean() for part in parts]) for of in (score, label))
    top = min(max(float(said.max()), float(came.max()), 0.01) * 1.08, 1.0)
    axes.plot((0, top), (0, top), color=_PALE, linewidth=1, label="exactly right")
    axes.plot(said, came, "o-", color=_OURS, markersize=4, linewidth=1.4, label="ours")
    axes.set(xlim=(0, top), ylim=(0, top))
    axes.legend(loc="upper left", frameon=False, fontsize=8)
    return figure


def inputs(importance: Mapping[str, float]) -> Figure:
    figure, axes = _figure("Importance: what it goes by", "share of the gain, %", "")
    top = [(name, share) for name, share in importance.items() if share > 0][:SHOWN][::-1]
    names, shares = [name for name, _ in top], [100 * share for _, share in top]
    axes.barh(names, shares, color=_OURS, height=0.65)
    for row, share in enumerate(shares):
        axes.text(share, row, f" {share:.1f}", va="center", fontsize=7, color=_INK)
    axes.set_xlim(0, max(shares, default=1.0) * 1.12)
    axes.tick_params(axis="y", length=0, labelsize=7)
    axes.grid(visible=False, axis="y")
    return figure


def distribution(label: Array, score: Array, cut: float) -> Figure:
    figure, axes = _figure("Scores: how they are spread", "score", "rows, logarithmic")
    edges = np.linspace(0, max(float(score.max()), cut, 0.01) * 1.001, 41)
    with_, without = (np.histogram(score[which], edges)[0] for which in (label, ~label))
    axes.stairs(without, edges, fill=True, color=_PALE, label=f"without the outcome ({int((~label).sum()):,})")
    axes.stairs(with_, edges, color=_OURS, linewidth=1.6, label=f"with it ({int(label.sum()):,})")
    axes.axvline(cut, color=_OTHERS[0], linewidth=1.2, linestyle="--", label=f"threshold {cut:.3f}")
    axes.set_yscale("log")
    axes.set(xlim=(0, edges[-1]), ylim=(0.7, max(int(without.max()), int(with_.max()), 1) * 3))
    axes.legend(loc="upper center", frameon=False, fontsize=8)
    return figure


def _figure(title: str, x: str, y: str) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure  # half a second, which jobs that draw nothing need not wait

    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=10, loc="left", color=_INK)
    axes.set_xlabel(x, fontsize=8, color=_INK)
    axes.set_ylabel(y, fontsize=8, color=_INK)
    axes.tick_params(labelsize=8, colors=_INK)
    axes.grid(visible=True, color="#eeeeee", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes
