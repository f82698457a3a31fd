"""What is known of a model version, for machines: metadata.json. CARD.md tells a reader (training/card_text.py)."""

from __future__ import annotations

import msgspec

METADATA = "metadata.json"
CARD = "CARD.md"
ONNX = "model.onnx"
ONLINE = "logistic regression, learned online"  # the estimator of versions that outcomes taught, one after another
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


class Band(msgspec.Struct, frozen=True):
    """Held-out rows whose confidence lies in [low, high): how often the likelier answer was right, and their Brier."""

    low: float
    high: float
    rows: int
    accuracy: float
    brier: float


class Gate(msgspec.Struct, frozen=True):
    """What a version had to reach, and what it did."""

    name: str
    wanted: str
    got: float
    passed: bool


class Metadata(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`threshold`: calibrated score from which an alert may open. `files`: sha256 of each file, hexadecimal.

    `defaults`: what stands for an input that is not known, in order; empty: what the service's features declare.
    `importance`: each input's share of the gain. `histograms`: of each input, and of `score`, as trained.
    `metrics`: {"set, who": {metric: value}} on rows kept aside; `intervals`: 95 % of them, people drawn again.
    `confidence`: error by confidence, on these rows; `missing`: the same figures with only a share of the inputs known.
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
    estimator: str = "boosted trees"
    intervals: dict[str, dict[str, tuple[float, float]]] = {}
    confidence: tuple[Band, ...] = ()
    missing: dict[str, dict[str, float]] = {}
    gates: tuple[Gate, ...] = ()


def encode(metadata: Metadata) -> bytes:
    return msgspec.json.format(msgspec.json.encode(metadata), indent=1)


def decode(text: bytes) -> Metadata:
    """Raises msgspec.MsgspecError."""
    return msgspec.json.decode(text, type=Metadata)
