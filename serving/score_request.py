"""Reads what is asked of a scoring door, and names what is wrong with it."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from serving.errors import MAX_SHOWN, ApiError, located
from serving.messages import ID_BYTES
from serving.score_inputs import LARGEST, Inputs
from serving.score_messages import MOST, Instance, ScoreRequest

_decode = msgspec.json.Decoder(ScoreRequest).decode


class Asked(msgspec.Struct):
    """n instances: of each its id (None: nobody), and (input, value) of what was given. `many`: as `instances`."""

    ids: list[str | None]
    given: list[list[tuple[int, float]]]
    many: bool
    explain: bool


def read(body: bytes, inputs: Inputs) -> Asked:
    """Raises ApiError 422 that names the field, what was expected and what came."""
    asked = _decoded(body)
    if asked.instances is None:
        one = Instance(asked.id, asked.features)
        return Asked([_id(one, "")], [_given(one, inputs, "")], False, asked.explain)
    if asked.id is not None or asked.features is not None:
        raise ApiError(422, "expected `instances`, or `id` and `features`, got both", "instances")
    fields = [f"instances[{i}]." for i in range(len(asked.instances))]
    ids = [_id(one, field) for one, field in zip(asked.instances, fields, strict=True)]
    given = [_given(one, inputs, field) for one, field in zip(asked.instances, fields, strict=True)]
    return Asked(ids, given, True, asked.explain)


def _id(one: Instance, field: str) -> str | None:
    if one.id is None:
        if not one.features:
            raise ApiError(422, "expected an `id`, `features` or both, got neither", f"{field}id")
        return None
    text = str(one.id)
    if not 0 < len(text.encode()) <= ID_BYTES:
        raise ApiError(422, f"expected 1 to {ID_BYTES} bytes, got {len(text.encode())}", f"{field}id")
    return text


def _given(one: Instance, inputs: Inputs, field: str) -> list[tuple[int, float]]:
    return inputs.given(one.features, f"{field}features") if one.features else []


def _decoded(body: bytes) -> ScoreRequest:
    try:
        return _decode(body)
    except UnicodeDecodeError as error:
        raise ApiError(422, f"expected UTF-8: {error.reason} at byte {error.start}", "body") from None
    except msgspec.MsgspecError as error:
        field, detail = located(error)
        raise _wrong(body) or ApiError(422, detail, field) from None


def _wrong(body: bytes) -> ApiError | None:
    """What msgspec does not name: which feature is no finite number, which instances are too many."""
    try:
        asked = json.loads(body)  # it takes NaN and Infinity, which JSON has not
    except (ValueError, RecursionError):
        return None
    if not isinstance(asked, dict):
        return None
    instances = asked.get("instances")
    many = instances if isinstance(instances, list) else []
    if len(many) > MOST:
        return ApiError(422, f"expected at most {MOST} instances, got {len(many)}", "instances")
    fields = [("", asked), *((f"instances[{i}].", one) for i, one in enumerate(many))]
    for field, one in fields:
        features = one.get("features") if isinstance(one, dict) else None
        for name, value in features.items() if isinstance(features, dict) else ():
            if not _is_number(value):
                return ApiError(422, f"expected a finite number, got {_shown(value)}", f"{field}features.{name}")
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST  # no NaN, either


def _shown(value: Any) -> str:
    return json.dumps(value)[:MAX_SHOWN]
