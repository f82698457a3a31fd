"""When one forecaster may be called better than another, however often one looks."""

from __future__ import annotations

from math import log

import msgspec

RISK = 0.05  # that a forecaster which is no better is ever called so, over all tests of one `Evidence`
GIVEN_UP = -3.0  # nats at which a test is lost and the next one begins


class Evidence(msgspec.Struct):
    """The sum of `loss of the one - loss of the other` (nats), each said before the label was known.

    Its exponential is a likelihood ratio: a martingale with mean 1 while the one's probabilities are right, so that it
    reaches 1 / risk with at most that probability, ever (Ville, 1939; Ramdas et al., "Game-theoretic statistics and
    safe anytime-valid inference", 2023). A test that falls to GIVEN_UP is lost: what comes after a change must not
    first make good what came before it. The k-th test has the risk RISK / (k (k + 1)), which sum to RISK. Labels are
    taken to be independent of each other, given the scores.
    """

    nats: float = 0.0
    test: int = 1
    outcomes: int = 0

    def add(self, gain: float) -> None:
        """`gain`: how much less the other lost, in nats."""
        self.nats += gain
        self.outcomes += 1
        if self.nats <= GIVEN_UP:
            self.again()

    def again(self) -> None:
        """The next test begins."""
        self.nats, self.test, self.outcomes = 0.0, self.test + 1, 0

    @property
    def bar(self) -> float:
        """Nats to reach."""
        return log(self.test * (self.test + 1) / RISK)

    @property
    def enough(self) -> bool:
        return self.nats >= self.bar
