"""Each fuzz target answers its own seeds, and what a few bytes make of them; at length by `fuzzed.py`."""

from __future__ import annotations

import random
from contextlib import closing

import pytest

from tests.faults.fuzz_targets import TARGETS

CHANGES = 200


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_takes_its_seeds_and_what_is_near_them(name: str) -> None:
    """Bytes changed, cut and doubled."""
    target, dice = TARGETS[name](), random.Random(7)
    with closing(target):
        for seed in (b"", *target.seeds):
            target.take(seed)
            for _ in range(CHANGES):
                target.take(changed(seed, dice))


def changed(seed: bytes, dice: random.Random) -> bytes:
    data = bytearray(seed)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(data) + 1)
        data[at : at + dice.randint(0, 2)] = dice.randbytes(dice.randint(0, 2)) * dice.choice((1, 1, 50))
    return bytes(data)
