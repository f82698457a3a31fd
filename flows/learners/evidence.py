"""When one forecaster may be called better than another, however often one looks."""

from __future__ import annotations

from math import log

import msgspec

DOUBTED = 7.0  # nats by which what holds may lag behind: by chance once in 1,100 outcomes at most, if it is right
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


class Doubt(msgspec.Struct):
    """The most that one lost more than the other over the latest outcomes (nats): a CUSUM (Page, 1954).

    It begins again at 0 whenever the one was as good, so that a long good time excuses nothing. Being wrong about it
    costs little, so no account of the risk is kept.
    """

    nats: float = 0.0

    def add(self, loss: float) -> None:
        """`loss`: how much more the one lost, in nats."""
        self.nats = min(max(self.nats + loss, 0.0), DOUBTED)

    @property
    def enough(self) -> bool:
        return self.nats >= DOUBTED
