"""What one flush writes of a partition, and in which transactions."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from feature_repo import keys
from feature_repo.declare import Array
from flows.redo import Redo
from flows.resp import pack


class Commands:
    """Packed commands of one transaction, and how many they are."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.count = 0

    def add(self, *args: str | bytes | int) -> None:
        self.add_packed(pack(*args))

    def add_packed(self, data: bytes, count: int = 1) -> None:
        self.parts.append(data)
        self.count += count

    def joined(self) -> bytes:
        return b"".join(self.parts)

    @staticmethod
    def of(several: list[Commands]) -> Commands:
        """Several as one."""
        whole = Commands()
        for commands in several:
            whole.add_packed(commands.joined(), commands.count)
        return whole


class Written(msgspec.Struct):
    """Where the feature commands stand among a transaction's replies, whose they are, and whether whole before.

    Those of `copied` begin as copies of the defaults; their commands stand just before.
    """

    at: int
    rows: Array
    known: Array
    copied: Array

    def incomplete(self, replies: list[Any]) -> Array:
        """Rows whose hash is not whole: it gained fields where all were known, or was there before its copy."""
        at = self.at - len(self.copied)
        there = np.array(replies[at : self.at], bool)
        gained = np.array(replies[self.at : self.at + len(self.rows)], np.int64) > 0
        return np.concatenate((self.copied[~there], self.rows[gained & self.known]))


class Flush:
    """`people`: transactions of some people each, which may be done twice, and what was `written` in each.

    `rest`: what must be done once. `copied`: keys of those who begin as copies of the hash `defaults`.
    """

    def __init__(self, partition: int, defaults: str) -> None:
        self.partition, self.defaults = partition, defaults
        self.people: list[Commands] = []
        self.written: list[Written] = []
        self.rest = Commands()
        self.copied: list[bytes] = []

    def transactions(self) -> list[Commands]:
        """To be done in this order, once: one, or (see `redo.py`) what is written down, the people, and the rest."""
        if len(self.people) <= 1:
            return [Commands.of([*self.people, self.rest])]
        name = keys.redo(self.partition)
        self.rest.add("DEL", name)
        whole = Commands.of([*self.people, self.rest])
        first = Commands()
        first.add("SET", name, Redo(whole.count, whole.joined(), self.copied, self.defaults).encoded())
        return [first, *self.people, self.rest]

    def incomplete(self, replies: list[list[Any]]) -> Array:
        """Rows whose hash is not whole, by the replies to each transaction."""
        of_people = replies[1:] if len(self.people) > 1 else replies
        found = [written.incomplete(each) for written, each in zip(self.written, of_people, strict=False)]
        return np.concatenate(found) if found else np.zeros(0, np.int64)
