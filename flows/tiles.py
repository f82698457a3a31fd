"""A person's closed tiles as bytes: sorted (key, amount) pairs, a key being column << 20 | tile.

As they are stored and passed on, 8 bytes a tile: column (8 bits), tile (20 bits), amount (36 bits, signed); an amount
beyond that is several entries of one tile. As the table keeps them in memory, half of that: the hour of the newest
tile and the number of large amounts (uint32 each), then a uint32 a tile: column (8 bits), tile modulo 256, amount (16
bits), where 0 stands for a large one; then the large ones, int64 each. No window is longer than 90 tiles, so the
tile is one of the 256 up to the newest. Equal tiles are equal bytes in either form.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from feature_repo.declare import Array
from feature_repo.finish import DAY, HOUR

TILE = 20  # bits of a tile in a key
TILE_MASK = (1 << TILE) - 1
_AMOUNT = 36  # bits of an amount in a stored entry
KEY = 28  # bits of a key
_KEY_MASK = (1 << KEY) - 1  # the sign of an entry is the column's highest bit
_LIMIT = (1 << 35) - 1
_HEAD = 2  # words before the tiles in memory
_SMALL = (1 << 16) - 1  # the largest amount that needs no place of its own


def key(column: Array, tile: Array) -> Array:
    return (column << TILE) | tile


def place(key: Array, owner: Array) -> Array:
    """Numbers that sort tiles by owner, then key."""
    return (owner << KEY) | key


def added_up(key: Array, amount: Array, owner: Array) -> tuple[Array, Array, Array]:
    """Tiles in any order as (key, amount, owner) sorted by owner, then key, each once, without those of 0."""
    places = place(key, owner)
    order = np.argsort(places, kind="stable")
    places, amount = places[order], amount[order]
    starts = np.flatnonzero(differs(places))
    sums = np.add.reduceat(amount, starts) if len(starts) else amount
    there = np.flatnonzero(sums)
    places = places[starts[there]]
    return places & _KEY_MASK, sums[there], places >> KEY


def differs(x: Array) -> Array:
    """True where an element differs from the one before it."""
    out = np.ones(len(x), bool)
    np.not_equal(x[1:], x[:-1], out=out[1:])
    return out


# -- as they are stored


def read(stored: Sequence[bytes]) -> tuple[Array, Array, Array]:
    """(key, amount, owner: place in `stored`) of each entry, int64 (n,)."""
    entries = np.frombuffer(b"".join(stored), np.int64)
    lengths = np.fromiter(map(len, stored), np.int64, len(stored)) // 8
    owner = np.repeat(np.arange(len(stored)), lengths)
    return (entries >> _AMOUNT) & _KEY_MASK, (entries << (64 - _AMOUNT)) >> (64 - _AMOUNT), owner


def write(key: Array, amount: Array, owner: Array, n: int) -> list[bytes]:
    """Entries of each of n people, from int64 (m,) sorted by owner (0..n-1), then key. Amounts of 0 are left out."""
    there = np.flatnonzero(amount)
    key, amount, owner = key[there], amount[there], owner[there]
    parts = (np.abs(amount) - 1) // _LIMIT + 1
    if (parts > 1).any():
        at = np.repeat(np.arange(len(parts)), parts)
        full = np.sign(amount[at]) * _LIMIT
        amount = np.where(differs(at), amount[at] - (parts[at] - 1) * full, full)
        key, owner = key[at], owner[at]
    return _cut((key << _AMOUNT) | (amount & ((1 << _AMOUNT) - 1)), np.bincount(owner, minlength=n))


# -- as they are kept


def unpack(kept: Sequence[bytes], unit: Array) -> tuple[Array, Array, Array]:
    """(key, amount, owner: place in `kept`) of each tile, int64 (n,); `unit`: each column's tile, ms."""
    words = np.frombuffer(b"".join(kept), np.uint32)
    lengths = np.fromiter(map(len, kept), np.int64, len(kept)) // 4
    holders = np.flatnonzero(lengths)
    starts = (np.cumsum(lengths) - lengths)[holders]
    newest, large = words[starts].astype(np.int64), words[starts + 1].astype(np.int64)
    small = lengths[holders] - _HEAD - 2 * large
    there, many = _small(len(words), starts, starts + _HEAD + small, large)
    body = words[there].astype(np.int64)
    amount = body & _SMALL
    if len(many):
        amount[amount == 0] = words[many[::2]] | (words[many[1::2]].astype(np.int64) << 32)
    column = body >> 24
    last = np.where((unit > HOUR)[column], np.repeat(newest // (DAY // HOUR), small), np.repeat(newest, small))
    return key(column, last - ((last - (body >> 16)) & 255)), amount, np.repeat(holders, small)


def pack(key: Array, amount: Array, owner: Array, n: int, unit: Array) -> list[bytes]:
    """Of each of n people, from int64 (m,) sorted by owner (0..n-1), then key; no amount is 0."""
    small = np.bincount(owner, minlength=n)
    column, tile = key >> TILE, key & TILE_MASK
    is_large = (amount < 0) | (amount > _SMALL)
    large = np.bincount(owner[is_large], minlength=n)
    lengths = np.where(small, _HEAD + small + 2 * large, 0)
    holders = np.flatnonzero(small)
    starts = (np.cumsum(lengths) - lengths)[holders]
    words = np.empty(int(lengths.sum()), np.uint32)
    if len(holders):
        first = (np.cumsum(small) - small)[holders]
        words[starts] = np.maximum.reduceat(tile * (unit // HOUR)[column], first)
        words[starts + 1] = large[holders]
    there, many = _small(len(words), starts, starts + _HEAD + small[holders], large[holders])
    words[there] = (column << 24) | ((tile & 255) << 16) | np.where(is_large, 0, amount)
    words[many] = amount[is_large].view(np.uint32)
    return _cut(words, lengths)


def _small(words: int, starts: Array, ends: Array, large: Array) -> tuple[Array, Array]:
    """Which words are tiles, as a mask, and where large amounts are, of people whose words begin at `starts`."""
    there = np.ones(words, bool)
    for i in range(_HEAD):
        there[starts + i] = False
    many = np.zeros(0, np.int64)
    if large.any():
        _, many = _spans(ends, 2 * large)
        there[many] = False
    return there, many


def _spans(starts: Array, lengths: Array) -> tuple[Array, Array]:
    """(which span, place) of each place in spans that begin at `starts`."""
    which = np.repeat(np.arange(len(lengths)), lengths)
    before = np.cumsum(lengths) - lengths
    return which, np.arange(len(which)) + (starts - before)[which]


def _cut(items: Array, lengths: Array) -> list[bytes]:
    data, ends = items.tobytes(), (np.cumsum(lengths) * items.itemsize).tolist()
    return [data[start:end] for start, end in pairwise([0, *ends])]
