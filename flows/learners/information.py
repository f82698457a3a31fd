"""A step size for River's logistic regression: as much as what is known already leaves room for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from river.optim.base import Optimizer


class Information(Optimizer):
    """Each weight's gradient over its Fisher information, the sum of p (1 - p) x^2 of which older outcomes fade.

    The diagonal of the online Newton step of logistic regression (natural gradient; Amari, 1998): a rare outcome
    teaches as much as it should, with no learning rate to tune. `prior`: the information that each weight, 0 at first,
    begins with, 1 / variance. `memory`: outcomes after which what is known has faded to 1 / e.
    """

    def __init__(self, prior: Mapping[str, float], memory: float) -> None:
        super().__init__(1.0)
        self.prior, self.memory = dict(prior), memory
        self.information = dict.fromkeys(prior, 0.0)

    def see(self, x: Mapping[str, float], p: float) -> None:
        """An outcome that comes next, said to have the probability `p`. A correction is none, and is not seen."""
        fisher, fades = p * (1.0 - p), 1.0 - 1.0 / self.memory
        for name, value in x.items():
            self.information[name] = fades * self.information[name] + fisher * value * value

    def forget(self, share: float) -> None:
        """Only this share of what is known goes on."""
        self.information = {name: share * known for name, known in self.information.items()}

    def _step_with_dict(self, w: Any, g: Any) -> Any:
        for name, gradient in g.items():
            w[name] -= gradient / (self.prior[name] + self.information[name])
        return w
