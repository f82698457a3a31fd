"""Labelled rows: what a model learns from, and is judged by."""

from __future__ import annotations

import msgspec
import numpy as np

from training.evaluate import Scored
from training.people import Array


class Examples(msgspec.Struct, frozen=True):
    """Rows sorted by person, then time; (n,) each.

    `at`: ms since 1970. `features`: float32 (n, inputs), defaults in place of what is not known. `sure`: confidence
    of the signals, 0-1. `defaulted`: bool (n, inputs), where a default stands; None: nowhere. `best`: the chance of
    the label given all that is hidden, of simulated rows. `active`: people who do anything; 0: all of these.
    """

    person: Array
    at: Array
    features: Array
    sure: Array
    label: Array
    defaulted: Array | None = None
    best: Array | None = None
    active: int = 0

    def __len__(self) -> int:
        return len(self.person)

    def those(self, which: Array) -> Examples:
        """The rows of a mask or of rising indices."""
        defaulted, best = (None if of is None else of[which] for of in (self.defaulted, self.best))
        person, at, features = self.person[which], self.at[which], self.features[which]
        return Examples(person, at, features, self.sure[which], self.label[which], defaulted, best, self.active)

    def scored(self, score: Array, days: int) -> Scored:
        """For `evaluate`: scores (n,) that speak for at least so many days."""
        return Scored(self.person, self.at, score, self.sure, self.active or len(np.unique(self.person)), days)

    @property
    def unknown(self) -> Array:
        """Where a default stands: bool (n, inputs)."""
        return np.zeros(self.features.shape, bool) if self.defaulted is None else self.defaulted

    @property
    def both(self) -> bool:
        """There are rows with the label and rows without."""
        return bool(self.label.any() and not self.label.all())
