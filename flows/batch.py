"""Events of many entries as one set of columns."""

from __future__ import annotations

import msgspec
import numpy as np

from feature_repo.declare import Array
from feature_repo.vocabulary import PUSHED, SILENT, UNKNOWN
from flows.entry import Entry
from flows.streams import Read

MIX = np.uint64(0x9E3779B97F4A7C15)


class Batch(msgspec.Struct):
    """Columns of n events, in the log's order within each partition. `source` is an event's place in `entries`."""

    entries: list[Entry]
    starts: Array
    source: Array
    partition: Array
    now: Array
    muted: Array
    uid: Array
    mid: Array
    ts: Array
    value: Array
    code: Array

    def __len__(self) -> int:
        return len(self.uid)

    def name(self, i: int) -> bytes:
        """`organisation/user` of event i."""
        source = int(self.source[i])
        return self.entries[source].name(i - int(self.starts[source]))

    @property
    def internal(self) -> Array:
        """Rows that tell of a join and are no events: neither counted nor remembered."""
        return self.mid == 0

    @property
    def timeless(self) -> Array:
        """Calls that touch no window, and so are never late for one."""
        return (self.code == SILENT) | (self.code == PUSHED)

    @property
    def message(self) -> Array:
        """Identities of messages, apart for each partition, none of them 0 or 1."""
        mixed = (self.mid ^ self.partition.astype(np.uint64)) * MIX
        return np.maximum(mixed, np.uint64(2))

    @property
    def minute(self) -> Array:
        return self.now // 60_000

    def touches(self) -> Array:
        """Events that change their person: all but unknown ones and silent ones that tell nothing."""
        out = (self.code != UNKNOWN) & (self.code != SILENT)
        for start, entry in zip(self.starts.tolist(), self.entries, strict=True):
            out[start + entry.trait_at] = True
            out[start + entry.join_at] = True
        return out


def gather(reads: list[Read], codes: dict[int, Array | None]) -> Batch:
    """One batch of decoded entries. `codes[fingerprint]` maps an older numbering to today's, None = the same."""
    entries = [_renumbered(read.entry, codes) for read in reads if read.entry is not None]
    lengths = [len(entry) for entry in entries]
    source = np.repeat(np.arange(len(entries)), lengths)
    return Batch(
        entries=entries,
        starts=np.cumsum([0, *lengths[:-1]]),
        source=source,
        partition=np.array([read.partition for read in reads])[source],
        now=np.array([read.ms for read in reads])[source],
        muted=np.array([entry.history for entry in entries])[source],
        uid=np.concatenate([entry.uid for entry in entries]),
        mid=np.concatenate([entry.mid for entry in entries]),
        ts=np.concatenate([entry.ts for entry in entries]),
        value=np.concatenate([entry.value for entry in entries]),
        code=np.concatenate([entry.code for entry in entries]).astype(np.int64),
    )


def _renumbered(entry: Entry, codes: dict[int, Array | None]) -> Entry:
    known = codes.get(entry.fingerprint)
    if known is None:
        return entry
    return msgspec.structs.replace(entry, code=known[np.minimum(entry.code, len(known) - 1)])
