"""What computes features, as a fingerprint: two processes of one fingerprint make the same features of a state."""

from __future__ import annotations

import platform
from pathlib import Path
from types import CodeType

import numpy as np
import xxhash

from feature_repo.declare import Derived
from feature_repo.vocabulary import Vocabulary, nodes, sources

_ROOMS = Path(__file__).parent, Path(__file__).parent.parent / "feature_repo"
_SOURCES = sources(*_ROOMS)  # as they are when they are loaded: files may be replaced under a running process


def code_version(vocabulary: Vocabulary) -> int:
    """64 bits over the sources of this room, of `feature_repo` and of the domain, the formulas, numpy and the machine.

    A domain that calls code elsewhere should change a line of its own when that changes.
    """
    found = xxhash.xxh3_64(repr((_SOURCES, vocabulary.sources, np.__version__, platform.machine())).encode())
    for feature in vocabulary.features:
        formulas = [node.fn for node in nodes(feature.of, vocabulary) if isinstance(node, Derived)]
        found.update(repr((feature.name, feature.default, [_formula(fn.__code__) for fn in formulas])).encode())
    return found.intdigest()


def _formula(code: CodeType) -> tuple[object, ...]:
    """What of it is the same in every process."""
    constants = [constant for constant in code.co_consts if not isinstance(constant, CodeType)]
    return code.co_code, code.co_names, constants
