"""What is known of a model version: the machine's copy (metadata.json) and the reader's (CARD.md)."""

from __future__ import annotations

import msgspec

METADATA = "metadata.json"
CARD = "CARD.md"
ONNX = "model.onnx"
BOOSTER = "model.ubj"


class Golden(msgspec.Struct, frozen=True):
    """Rows and the answers that the trainer gave: a loaded model must give the same, within 1e-5."""

    inputs: list[list[float]]
    raw: list[float]
    calibrated: list[float]


class Recommendation(msgspec.Struct, frozen=True):
    """What to do from a probability and a confidence on, and why: of several, the first that holds.

    `level`: the name of the risk, where it has one.
    """

    action: str
    probability: float
    confidence: float = 0.0
    reason: str = ""
    level: str = ""


class Histogram(msgspec.Struct, frozen=True):
    """How something was distributed in training: `counts` lie between `edges`, one more than they are.

    `missing`: the share of rows in which it was not known.
    """

    edges: list[float]
    counts: list[int]
    missing: float = 0.0


class Metadata(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`threshold`: calibrated score from which an alert may open. `files`: sha256 of each file, hexadecimal.

    `defaults`: what stands for an input that is not known, in order; empty: what the service's features declare.
    `importance`: each input's share of the gain. `histograms`: of each input, and of `score`, as trained.
    """

    name: str
    version: str
    service: str
    alert: str | None
    outcome: str
    horizon_days: int
    inputs: tuple[str, ...]
    threshold: float
    budget: float
    files: dict[str, str]
    golden: Golden
    trained_on: dict[str, str | int | float]
    metrics: dict[str, dict[str, float]]
    vocabulary: int
    packages: dict[str, str]
    simulated: bool = True  # the people that it was trained on
    entity: str = "user"
    defaults: tuple[float, ...] = ()
    importance: dict[str, float] = {}
    recommendations: tuple[Recommendation, ...] = ()
    histograms: dict[str, Histogram] = {}


_SIMULATED = (
    "**Trained on simulated people. Not for decisions about real ones**: train it on your own history first.",
    "",
)
_REACHABLE = ("`best reachable` sees the simulation's hidden state, which no model can.",)


def encode(metadata: Metadata) -> bytes:
    return msgspec.json.format(msgspec.json.encode(metadata), indent=1)


def decode(text: bytes) -> Metadata:
    """Raises msgspec.MsgspecError."""
    return msgspec.json.decode(text, type=Metadata)


def card(metadata: Metadata) -> str:
    """The card of a model version, in Markdown."""
    m = metadata
    return "\n".join(
        [
            f"# {m.name} {m.version}",
            "",
            *(_SIMULATED if m.simulated else ()),
            f"It says how likely a person's `{m.outcome}` is within {m.horizon_days} days,",
            f"from the {len(m.inputs)} features of the service `{m.service}`, as of an event or a daily refresh.",
            f"From a calibrated score of {m.threshold:.3f} on it opens an alert of type `{m.alert}`; that threshold",
            f"was fixed on an earlier period, to open at most {m.budget:.3g} alerts a year and active person.",
            "",
            "Boosted trees (XGBoost), sigmoid-calibrated on a later slice, exported to ONNX; equal within 1e-5.",
            "",
            "## Trained on",
            "",
            *[f"- {key}: {value}" for key, value in m.trained_on.items()],
            "",
            "## How good",
            "",
            *_table(m.metrics),
            "",
            "AUC, average precision and Brier score are over rows at scoring instants; alerts are counted in",
            "episodes: a person's alert counts once in a cool-down.",
            *(_REACHABLE if m.simulated else ()),
            "",
            "## Made with",
            "",
            *[f"- {name} {version}" for name, version in m.packages.items()],
            "",
        ]
    )


def _table(metrics: dict[str, dict[str, float]]) -> list[str]:
    columns = list(dict.fromkeys(column for row in metrics.values() for column in row))
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, row in metrics.items():
        lines.append(f"| {name} | " + " | ".join(_cell(row.get(column)) for column in columns) + " |")
    return lines


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
