"""What computes features, as a fingerprint: two processes of one fingerprint make the same features of a state."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import xxhash

from feature_repo.declare import Derived
from feature_repo.vocabulary import Vocabulary, nodes

_ROOMS = (Path(__file__).parent, Path(__file__).parent.parent / "feature_repo")


def code_version(vocabulary: Vocabulary) -> int:
    """64 bits over the sources of this room, of `feature_repo` and of the domain, the formulas, numpy and the machine.

    A domain that calls code elsewhere should change a line of its own when that changes.
    """
    found = xxhash.xxh3_64(f"{np.__version__} {platform.machine()}".encode())
    places = {*_ROOMS, *([Path(vocabulary.place)] if vocabulary.place else [])}
    for source in sorted(path for place in places for path in place.glob("*.py")):
        found.update(source.read_bytes())
    for feature in vocabulary.features:
        formulas = [node.fn for node in nodes(feature.of, vocabulary) if isinstance(node, Derived)]
        codes = [(fn.__code__.co_code, fn.__code__.co_names) for fn in formulas]
        found.update(repr((feature.name, feature.default, codes)).encode())
    return found.intdigest()
