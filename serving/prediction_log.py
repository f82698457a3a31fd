"""Every answered prediction on its way to the lake, without an answer waiting for it.

What was answered gathers here and goes to a stream in Redis a few times a second, in columns; the version that is tried
beside the deployed one scores the same rows then. What there is no room for is counted, as dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from itertools import groupby

import msgspec
import numpy as np

from feature_repo import keys
from feature_repo.declare import Array
from flows.predictions import Head, Predictions, Words, encode
from flows.resp import StoreError, pack
from onnx_models.session import Model
from serving.connection import Client

log = logging.getLogger("telltale.api")

EVERY_S = 0.25  # between two flushes
MOST_ROWS = 100_000  # that wait here
PIECE = 5_000  # rows an entry
MOST_BYTES = 64 << 20  # that wait in Redis, about, until the lake takes them
Shadow = tuple[Model, Array]  # a version that is tried beside the deployed one, and what stands for its unknown inputs


class Answered(msgspec.Struct):
    """What one call of a model answered; n rows. `scores` float32 (3, n): probability, raw, confidence."""

    model: Model
    entity: str
    words: Words
    at: int
    scores: Array
    inputs: Array
    defaulted: Array
    shadow: Shadow | None = None


class PredictionLog:
    """`add`, and let `run` run beside."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._waiting: list[Answered] = []
        self._rows = self._dropped = 0
        self._stopping = asyncio.Event()

    def add(self, answered: Answered) -> None:
        """Keeps what was answered until it is written; when too much waits, counts it instead."""
        count = len(answered.words.ids)
        if self._rows + count > MOST_ROWS:
            self._dropped += count
            return
        self._waiting.append(answered)
        self._rows += count

    async def run(self) -> None:
        """Until `stop`; what waits then is written, once."""
        ended = False
        while not ended:
            with contextlib.suppress(TimeoutError):
                ended = await asyncio.wait_for(self._stopping.wait(), EVERY_S)
            try:
                await self.flush()
            except StoreError as error:  # it waits, and is counted once there is no more room
                log.debug("predictions wait: %s", error)

    def stop(self) -> None:
        self._stopping.set()

    def close(self) -> None:
        self._client.close()

    async def flush(self) -> None:
        """Writes what waits. Raises StoreError; then it still waits."""
        if not self._waiting and not self._dropped:
            return
        held = (await self._client.call(pack("MEMORY", "USAGE", keys.PREDICTIONS)))[0] or 0
        taken, self._waiting = self._waiting, []
        rows, self._rows = self._rows, 0
        dropped, self._dropped = self._dropped, 0
        if held > MOST_BYTES:  # no lake comes for them
            taken, rows, dropped = [], 0, dropped + rows
        try:
            entries = await asyncio.to_thread(_entries, taken)
        except Exception:  # nothing that is wrong with some of them may end the log
            log.exception("%d predictions cannot be written down", rows)
            entries, rows, dropped = [], 0, dropped + rows
        counts = {"logged": rows, "dropped": dropped}
        commands = [pack("XADD", keys.PREDICTIONS, "*", *fields) for fields in entries]
        commands += [pack("HINCRBY", keys.PREDICTION_COUNTS, name, n) for name, n in counts.items() if n]
        try:
            await self._client.call(pack("MULTI"), *commands, pack("EXEC"))
        except StoreError:
            self._waiting, self._rows = taken + self._waiting, rows + self._rows
            self._dropped += dropped
            raise


def _entries(taken: Sequence[Answered]) -> list[list[bytes | str | int]]:
    """The fields of each entry. Work for a thread: shadows score here."""
    found = []
    for _, same in groupby(sorted(taken, key=_shared), _shared):
        rows = _joined(list(same))
        found += [encode(_part(rows, low)) for low in range(0, len(rows), PIECE)]
    return found


def _shared(answered: Answered) -> tuple[str, str, str]:
    return answered.model.name, answered.model.version, answered.shadow[0].version if answered.shadow else ""


def _joined(same: list[Answered]) -> Predictions:
    first = same[0]
    inputs = np.concatenate([a.inputs for a in same])
    defaulted = np.concatenate([a.defaulted for a in same])
    shadow = _tried(first.shadow, inputs, defaulted)
    scores = np.concatenate([np.concatenate([a.scores for a in same], axis=1), shadow[None, :]])
    words = Words(
        [id_ for a in same for id_ in a.words.ids],
        [organisation for a in same for organisation in a.words.organisations],
        [entity for a in same for entity in a.words.entities],
        _numbers(same),
    )
    at = np.repeat([a.at for a in same], [len(a.words.ids) for a in same])
    version = first.shadow[0].version if first.shadow else ""
    head = Head(first.model.name, first.model.version, version, first.entity, first.model.inputs)
    return Predictions(head, words, at, scores, inputs, defaulted)


def _numbers(same: list[Answered]) -> list[int]:
    if not any(a.words.calibrations for a in same):
        return []
    return [number for a in same for number in a.words.calibrations or [0] * len(a.words.ids)]


def _tried(shadow: Shadow | None, inputs: Array, defaulted: Array) -> Array:
    """What the version that is tried answers to the same rows: its own defaults stand where theirs did."""
    if shadow is None:
        return np.full(len(inputs), np.nan, np.float32)
    model, defaults = shadow
    return model.score(np.where(defaulted, defaults, inputs).astype(np.float32))


def _part(rows: Predictions, low: int) -> Predictions:
    part = slice(low, low + PIECE)
    return Predictions(
        rows.head, rows.words.part(part), rows.at[part], rows.scores[:, part], rows.inputs[part], rows.defaulted[part]
    )
