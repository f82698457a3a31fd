"""A data frame as JSON, as Feast's server takes it: columns of values, read as one external view's."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec

from feature_repo.declare import Entity, Field, Value, View
from feature_repo.moments import microseconds
from feature_repo.vocabulary import COLUMNS
from serving.errors import ApiError
from serving.intake import Rejected, person
from serving.messages import ID_BYTES

TIMESTAMP, _ = COLUMNS  # the first says when a row's values held
ROWS = 20_000
SHOWN = 60  # characters of a value in a message
Columns = dict[str, Any]


class Frame(msgspec.Struct, frozen=True):
    """n rows: `ids` of entities, `at` microseconds since 1970, `columns` one a field of the view, in its order."""

    ids: list[str]
    at: list[int]
    columns: list[list[Value | None]]

    def __len__(self) -> int:
        return len(self.ids)


def read(df: Columns, view: View, entity: Entity) -> Frame:
    """Columns that the view does not have are passed over, as Feast does. Raises ApiError 400, 413."""
    columns = _lists(df)
    rows = len(next(iter(columns.values()), ()))
    if rows > ROWS:
        raise ApiError(413, f"expected at most {ROWS} rows, got {rows}", "df")
    if not rows:
        return Frame([], [], [])
    return Frame(
        _column(columns, entity.join_key, _id, _are_ids),
        _column(columns, TIMESTAMP, _Moments(), _unseen),
        [_column(columns, field.name, _nullable(field), _ARE[field.kind]) for field in view.fields],
    )


def _lists(df: Columns) -> dict[str, list[Any]]:
    """The columns as lists of one length: given as lists, or as pandas' `to_dict()` gives them, by index."""
    columns = {name: _values(name, column, df) for name, column in df.items()}
    if len({len(column) for column in columns.values()}) > 1:
        told = ", ".join(f"{name} has {len(column)}" for name, column in columns.items())
        raise ApiError(400, f"expected columns of one length: {told}", "df")
    return columns


def _values(name: str, column: Any, df: Columns) -> list[Any]:
    if isinstance(column, list):
        return column
    first = next(iter(df.values()))
    if isinstance(column, dict) and isinstance(first, dict) and column.keys() == first.keys():
        return [column[index] for index in first]
    raise ApiError(400, "expected a list of values, or all columns as values by the same index", f"df.{name}")


def _column(
    columns: dict[str, list[Any]], name: str, read_value: Callable[[Any], Any], are: Callable[[list[Any]], bool]
) -> list[Any]:
    """The column read; as it is where a look at the whole of it (`are`) shows that it is good."""
    if name not in columns:
        raise ApiError(400, f"expected a column {name}, got {', '.join(columns)}", f"df.{name}")
    values = columns[name]
    if are(values):
        return values
    try:
        return list(map(read_value, values))
    except ValueError:
        raise _located(name, values, read_value) from None


def _located(name: str, values: list[Any], read_value: Callable[[Any], Any]) -> ApiError:
    """What is wrong with the first value that is."""
    for row, value in enumerate(values):
        try:
            read_value(value)
        except ValueError as error:
            return ApiError(400, f"row {row}: {error}, got {value!r:.{SHOWN}}", f"df.{name}")
    return ApiError(400, "expected other values", f"df.{name}")


def _id(value: Any) -> str:
    if type(value) not in (str, int):
        raise ValueError("expected a text or a whole number")
    try:
        found = person(value, "")
    except Rejected as error:
        raise ValueError(error.detail) from None
    if not found:
        raise ValueError("expected an id")
    return found


def _are_ids(values: list[Any]) -> bool:
    if not _are_texts(values) or not all(values):
        return False
    return max(map(len, values)) <= ID_BYTES // 4 and "".join(values).isprintable()


def _are_texts(values: list[Any]) -> bool:
    return set(map(type, values)) == {str}


def _are_numbers(values: list[Any]) -> bool:
    return set(map(type, values)) == {float}


def _unseen(values: list[Any]) -> bool:
    return False


class _Moments:
    """Moments as pandas reads them: ISO 8601 (UTC where it names no zone), or whole nanoseconds since 1970."""

    def __init__(self) -> None:
        self._known: dict[Any, int] = {}  # a batch is often of one moment

    def __call__(self, value: Any) -> int:
        if type(value) not in (str, int):
            raise ValueError("expected ISO 8601, or nanoseconds since 1970")
        found = self._known.get(value)
        if found is None:
            found = self._known[value] = self._read(value)
        return found

    @staticmethod
    def _read(value: str | int) -> int:
        try:
            return value // 1000 if isinstance(value, int) else microseconds(datetime.fromisoformat(value))
        except ValueError:
            raise ValueError("expected ISO 8601, or nanoseconds since 1970") from None


def _nullable(field: Field) -> Callable[[Any], Value | None]:
    read_value = _READERS[field.kind]
    return lambda value: None if value is None else read_value(value)


def _number(value: Any) -> float:
    if type(value) is float:
        return value
    if type(value) is int and value.bit_length() < 1024:
        return float(value)
    raise ValueError("expected a number")


def _integer(value: Any) -> int:
    if type(value) is float and value.is_integer():  # pandas makes integers floats where one of them is null
        value = int(value)
    if type(value) is int and -(1 << 63) <= value < 1 << 63:
        return value
    raise ValueError("expected a whole number of 64 bits")


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise ValueError("expected a text")


_ARE: dict[str, Callable[[list[Any]], bool]] = {"number": _are_numbers, "integer": _unseen, "text": _are_texts}
_READERS: dict[str, Callable[[Any], Value]] = {"number": _number, "integer": _integer, "text": _text}
