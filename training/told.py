"""Traits that a past tells, gathered into a stream's columns."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np

from feature_repo.traits import bits
from feature_repo.vocabulary import Vocabulary
from training.people import Array


class Told:
    """Rows of (person, trait, bits, when it was so, when it was known), in the order in which they are added."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._traits = {trait.name: (vocabulary.trait_id[trait.name], trait) for trait in vocabulary.traits}
        self._rows: list[tuple[int, int, int, int, int]] = []

    def add(self, person: int, traits: dict[str, Any], ts: int, now: int) -> None:
        for name in traits.keys() & self._traits.keys():
            number, trait = self._traits[name]
            with suppress(ValueError):  # the door does not take it either
                self._rows.append((person, number, bits(trait, traits[name]), min(ts, now), now))

    def columns(self) -> Array:
        """int64 (5, n)."""
        return np.array(self._rows, np.int64).reshape(-1, 5).T
