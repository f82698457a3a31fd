"""What to do about a score: what the model's version recommends, or else what its service says of those who alert."""

from __future__ import annotations

from feature_repo.declare import Service
from onnx_models.confidence import recommended
from onnx_models.session import Model
from serving.messages import Recommended


def advised(service: Service, model: Model, probability: float, confidence: float) -> Recommended | None:
    """None where neither says anything, or the score is below what they say it of."""
    found = recommended(model.metadata.recommendations, probability, confidence)
    if found:
        return Recommended(found.action, found.reason, found.level)
    if service.advice and probability >= model.threshold:
        return Recommended(service.advice, "the score reaches the threshold of alerts", "")
    return None
