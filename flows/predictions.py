"""Predictions that were answered, on their way to the lake: entries of the stream `keys.PREDICTIONS`, in columns.

Fields of an entry: `n` rows; `m` what they share (JSON, `Head`); `t` their words (JSON, `Words`); `f` their numbers
(little endian, zstd where it pays): at (int64 ms), probability, raw, confidence, shadow's probability (float32 each;
NaN = none), inputs (float32, n x inputs), which of them were defaulted (bits).
"""

from __future__ import annotations

import msgspec
import numpy as np
import zstandard

from feature_repo.declare import Array

SMALL = 1_024  # bytes below which compression does not pay
SCORES = ("probability", "raw", "confidence", "shadow_probability")
_ZSTD = b"\x28\xb5\x2f\xfd"
_compressor = zstandard.ZstdCompressor(level=1, write_checksum=False)


class Head(msgspec.Struct, frozen=True):
    """What the rows of an entry share. `shadow`: the version that was tried beside, empty: none."""

    model: str
    version: str
    shadow: str
    entity: str
    inputs: tuple[str, ...]


class Words(msgspec.Struct):
    """By row: the prediction's id, whose it is, of whom (null: nobody named), and the online calibration's number.

    `calibrations`: empty where no row has one.
    """

    ids: list[str]
    organisations: list[str]
    entities: list[str | None]
    calibrations: list[int] = []

    def part(self, rows: slice) -> Words:
        return Words(self.ids[rows], self.organisations[rows], self.entities[rows], self.calibrations[rows])


class Predictions(msgspec.Struct):
    """n answered predictions of one version: at int64 ms (n,), scores float32 (4, n) as `SCORES`.

    inputs float32 (n, k) as the model was given them, defaulted bool (n, k).
    """

    head: Head
    words: Words
    at: Array
    scores: Array
    inputs: Array
    defaulted: Array

    def __len__(self) -> int:
        return len(self.at)


def encode(rows: Predictions) -> list[bytes | str | int]:
    """The fields of an entry."""
    columns = (rows.at.astype("<i8"), rows.scores.astype("<f4"), rows.inputs.astype("<f4"), np.packbits(rows.defaulted))
    body = b"".join(np.ascontiguousarray(column).tobytes() for column in columns)
    packed = _compressor.compress(body) if len(body) > SMALL else body
    return [
        "n",
        len(rows),
        "m",
        msgspec.json.encode(rows.head),
        "t",
        _text(msgspec.json.encode(rows.words)),
        "f",
        packed,
    ]


def decode(fields: dict[bytes, bytes]) -> Predictions:
    """The rows of an entry. Raises ValueError for one that is not ours."""
    try:
        head = msgspec.json.decode(fields[b"m"], type=Head)
        words = msgspec.json.decode(_plain(fields[b"t"]), type=Words)
        return _decoded(head, words, _plain(fields[b"f"]))
    except (KeyError, msgspec.MsgspecError, zstandard.ZstdError, UnicodeDecodeError) as error:
        raise ValueError(f"expected the fields of predictions: {error!r}") from error


def _decoded(head: Head, words: Words, body: bytes) -> Predictions:
    n, k = len(words.ids), len(head.inputs)
    at = np.frombuffer(body, "<i8", n)
    scores = np.frombuffer(body, "<f4", len(SCORES) * n, 8 * n).reshape(len(SCORES), n)
    start = (8 + 4 * len(SCORES)) * n
    inputs = np.frombuffer(body, "<f4", n * k, start).reshape(n, k)
    bits = np.frombuffer(body, np.uint8, offset=start + 4 * n * k)
    defaulted = np.unpackbits(bits, count=n * k).astype(bool).reshape(n, k)
    return Predictions(head, words, at, scores, inputs, defaulted)


def _text(body: bytes) -> bytes:
    return _compressor.compress(body) if len(body) > SMALL else body


def _plain(body: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompress(body) if body[:4] == _ZSTD else body


def columns(head: Head) -> list[str]:
    """How the lake names the inputs: as the service does, with `input:` before what is called like another column."""
    return [f"input:{name}" if name in TAKEN else name for name in head.inputs]


TAKEN: frozenset[str] = frozenset({
    "prediction_id", "at", "organisation", "model", "version", "entity", "entity_id", "defaulted", "shadow_version",
    "calibration", *SCORES,
})  # fmt: skip
