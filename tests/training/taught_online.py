"""An online challenger that outcomes have taught."""

from __future__ import annotations

import msgspec
import numpy as np

from feature_repo.services import SERVICES
from flows.learners.challenger_linear import Linear
from flows.learners.example import Place
from tests.flows.made_examples import examples

SERVICE = next(service for service in SERVICES if service.name == "likely_to_sell")


def learned(n: int, *, champion: float | None = None) -> Linear:
    """Taught by people of whom four inputs tell something. `champion`: what it says of all, instead of the truth."""
    learner, rest = Linear(Place("likely_to_sell")), np.random.default_rng(1)
    for made in examples(n, 1):
        noise = rest.normal(50.0, 20.0, len(SERVICE.features) - 4)
        raw = made.raw if champion is None else champion
        features = (*made.features, *map(float, noise))
        learner.learn(msgspec.structs.replace(made, features=features, names=SERVICE.features, raw=raw))
    return learner
