"""A learner's state as bytes: MessagePack `[kind, format, {field: numbers}]`, which any reader of MessagePack opens."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


def packed(kind: str, format_: int, numbers: Any) -> bytes:
    return msgspec.msgpack.encode((kind, format_, numbers))


def unpacked(state: bytes, kind: str, format_: int, of: type[T]) -> T:
    """Raises ValueError that says what was expected."""
    try:
        told, known, numbers = msgspec.msgpack.decode(state, type=tuple[str, int, msgspec.Raw])
        if (told, known) != (kind, format_):
            raise ValueError(f"expected the state of a {kind} in format {format_}, got {told[:50]!r} in format {known}")
        return msgspec.msgpack.decode(numbers, type=of)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise ValueError(f"expected the state of a {kind} in format {format_}: {error}") from error
