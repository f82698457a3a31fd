"""Reads a request's query: each parameter as its type, and none that is not known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.requests import Request

from feature_repo.moments import milliseconds
from serving.errors import ApiError

Reader = Callable[[str], Any]  # of a parameter's text; raises ValueError that says what is expected
WHOLE = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
SHARE = Annotated[float, Meta(ge=0, le=1)]
_DATE_TIME = Meta(extra_json_schema={"format": "date-time"})
MOMENT = Annotated[str, _DATE_TIME] | WHOLE
TOLD_MOMENT = Annotated[str, _DATE_TIME] | Annotated[int, Meta(ge=0, lt=253_402_300_800_000)]  # to the year 9999


def asked(request: Request, readers: Mapping[str, Reader]) -> dict[str, Any]:
    """The parameters given. Raises ApiError 400 that names the one that is wrong, unknown ones too."""
    for name in request.query_params:
        if name not in readers:
            raise ApiError(400, f"expected one of {', '.join(readers)}", name)
    return {name: read(name, text, readers[name]) for name, text in request.query_params.items()}


def read(name: str, text: str, reader: Reader) -> Any:
    """One value. Raises ApiError 400."""
    try:
        return reader(text)
    except ValueError as error:
        raise ApiError(400, f"{error}, got {text[:100]!r}", name) from None


def value(kind: Any, expected: str) -> Reader:
    """A reader of any type that msgspec validates; `expected` says in words what that is."""

    def read_(text: str) -> Any:
        try:
            return msgspec.convert(text, kind, strict=False)
        except msgspec.ValidationError:
            raise ValueError(f"expected {expected}") from None

    return read_


def span(least: int, most: int) -> Any:
    return Annotated[int, Meta(ge=least, le=most)]


NUMBER = Annotated[str, Meta(pattern="^[0-9]{1,18}$")]
_number = value(NUMBER, "what `next` gave")


def number(text: str) -> int:
    """A cursor that is a number."""
    return int(_number(text))


def between(least: int, most: int) -> Reader:
    return value(span(least, most), f"a whole number from {least} to {most}")


whole = value(WHOLE, "a whole number from 0")


def moment(text: str) -> int:
    """ISO 8601 (without a zone: UTC) or ms since 1970, as ms since 1970."""
    try:
        return int(whole(text)) if text.isdecimal() else milliseconds(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        raise ValueError("expected ISO 8601 or milliseconds since 1970") from None
