"""BG/NBD by maximum likelihood, after Fader, Hardie and Lee (2005), Marketing Science 24:275-284.

Repeat purchases x, recency t_x and age T of each customer, (n,) in one unit of time; parameters r, alpha, a, b.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import betaln, gammaln, hyp2f1

Array = np.ndarray[Any, Any]
Parameters = tuple[float, float, float, float]


def log_likelihood(of: Parameters, x: Array, t_x: Array, age: Array) -> float:
    """Of all customers together: equation (6) of the paper."""
    r, alpha, a, b = of
    drawn = gammaln(r + x) - gammaln(r) + r * np.log(alpha)
    alive = betaln(a, b + x) - betaln(a, b) - (r + x) * np.log(alpha + age)
    gone = betaln(a + 1, b + np.maximum(x, 1) - 1) - betaln(a, b) - (r + x) * np.log(alpha + t_x)
    return float((drawn + np.where(x > 0, np.logaddexp(alive, gone), alive)).sum())


def fit(x: Array, t_x: Array, age: Array) -> Parameters:
    """The parameters of greatest likelihood, found in their logarithms."""

    def lost(logarithms: Array) -> float:
        r, alpha, a, b = np.exp(logarithms).tolist()
        return -log_likelihood((r, alpha, a, b), x, t_x, age)

    found = minimize(lost, np.log([0.5, 5.0, 1.0, 2.0]), method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-6})
    r, alpha, a, b = np.exp(found.x).tolist()
    return r, alpha, a, b


def expected(of: Parameters, x: Array, t_x: Array, age: Array, ahead: float) -> Array:
    """Purchases expected within `ahead` after T: equation (10) of the paper."""
    r, alpha, a, b = of
    shape = hyp2f1(r + x, b + x, a + b + x - 1, ahead / (alpha + age + ahead))
    few = 1 - ((alpha + age) / (alpha + age + ahead)) ** (r + x) * shape
    dead = a / (b + np.maximum(x, 1) - 1) * ((alpha + age) / (alpha + t_x)) ** (r + x)
    return np.asarray((a + b + x - 1) / (a - 1) * few / (1 + np.where(x > 0, dead, 0.0)))
