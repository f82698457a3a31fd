"""What is asked of the scoring doors, and what they answer."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from serving.messages import Contribution, Recommended

MOST = 1_000  # instances a request

EntityId = Annotated[
    str | int | None,
    Meta(
        description="Of the model's entity: its features are looked up. Nobody of that name: defaults, which are named"
    ),
]
Given = Annotated[
    dict[str, float] | None,
    Meta(
        description="Inputs by name, as the model's service lists them; they win over what is looked up",
        examples=[{"session_count_30d": 12}],
    ),
]


class Instance(msgspec.Struct, forbid_unknown_fields=True):
    """What to score: an id, features, or both."""

    id: EntityId = None
    features: Given = None


class ScoreRequest(msgspec.Struct, forbid_unknown_fields=True):
    """One instance (`id`, `features` or both), or many as `instances`."""

    id: EntityId = None
    features: Given = None
    instances: Annotated[
        Annotated[list[Instance], Meta(min_length=1, max_length=MOST)] | None, Meta(description="Instead of one")
    ] = None
    explain: Annotated[bool, Meta(description="Tell what each input adds to the log odds of `raw`")] = False


class Freshness(msgspec.Struct):
    """When the oldest view that was used held."""

    view: str
    at: datetime
    age_seconds: float


class Prediction(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The answer of one instance. `raw` and `probability`: before and after calibration."""

    prediction_id: Annotated[str, Meta(description="For `POST /v1/predictions/{id}/outcome`")]
    id: str | None
    score: Annotated[float, Meta(description="100 x probability")]
    probability: Annotated[float, Meta(description="Calibrated, 0-1")]
    raw: Annotated[float, Meta(description="Before calibration, 0-1")]
    confidence: Annotated[
        float,
        Meta(description="max(p, 1 - p), drawn towards 0.5 by the share of the model's importance on inputs not known"),
    ]
    recommendation: Annotated[Recommended | None, Meta(description="null: nothing is said of such a score")]
    defaulted: Annotated[list[str], Meta(description="Inputs that were neither known nor given: their defaults stood")]
    features_at: Annotated[Freshness | None, Meta(description="null: nothing was looked up that is known")]
    calibration: Annotated[int, Meta(description="Number of the online calibration; left out: the version's own")] = 0
    bias: Annotated[float | None, Meta(description="Log odds to which the contributions add; with `explain`")] = None
    contributions: Annotated[
        list[Contribution] | None, Meta(description="Strongest first; with `explain`, where the version can tell")
    ] = None


class OneScored(Prediction, kw_only=True, omit_defaults=True):
    """The answer to one instance."""

    model: str
    version: str
    took_ms: float


class ManyScored(msgspec.Struct, kw_only=True):
    """The answer to `instances`, in their order."""

    model: str
    version: str
    took_ms: float
    predictions: list[Prediction]
