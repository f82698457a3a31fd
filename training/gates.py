"""What a version must reach before anything may be scored with it."""

from __future__ import annotations

from onnx_models.card import Gate
from training.judge import Metrics
from training.model import Gates


def passed(gates: Gates, ours: Metrics, rule: Metrics | None, serving: Metrics | None, us_a_row: float) -> list[Gate]:
    """Each gate with what came, on the same held-out rows; a NaN passes none."""
    slope = ours["calibration slope"]
    found = [
        _least("ROC-AUC", gates.roc_auc, ours["ROC-AUC"]),
        _least("Brier skill against the base rate", gates.brier_skill, ours["Brier skill"]),
        _most("calibration error", gates.calibration_error, ours["calibration error"]),
        Gate("calibration slope", f"{gates.slope[0]:g} to {gates.slope[1]:g}", slope, _within(slope, gates.slope)),
        _most("microseconds a row", gates.us_a_row, us_a_row),
    ]
    if rule and gates.beats_rule:
        found.append(_least("PR-AUC, against the rule's", rule["PR-AUC"], ours["PR-AUC"]))
    if serving:
        found.append(
            _least("ROC-AUC, against the serving version's", serving["ROC-AUC"] - gates.no_worse, ours["ROC-AUC"])
        )
    return found


def failed(gates: list[Gate]) -> str:
    """What a version did not reach, in one line; empty where it passed."""
    return "; ".join(f"{gate.name}: expected {gate.wanted}, got {gate.got:.4g}" for gate in gates if not gate.passed)


def _least(name: str, wanted: float, got: float) -> Gate:
    return Gate(name, f"{wanted:.4g} or more", got, got >= wanted)


def _most(name: str, wanted: float, got: float) -> Gate:
    return Gate(name, f"{wanted:.4g} or less", got, got <= wanted)


def _within(value: float, ends: tuple[float, float]) -> bool:
    return ends[0] <= value <= ends[1]
