"""Requests and answers of the Open Inference Protocol v2: tensors as JSON, or behind it as bytes.

Source: https://github.com/kserve/open-inference-protocol (REST), and Triton's extension of binary tensor data.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta

from feature_repo.declare import Array
from onnx_models.session import INPUT
from serving.errors import MAX_SHOWN, ApiError, located

OUTPUTS = ("probability", "raw")
MOST = 10_000  # rows a request
_DTYPES: dict[str, np.dtype[Any]] = {"FP32": np.dtype("<f4"), "FP64": np.dtype("<f8")}
_LARGEST = float(np.finfo(np.float32).max)
_UNDONE = ("shared_memory_region", "classification")


class TensorIn(msgspec.Struct):
    """`data`: nested as `shape`, or flat row by row; without it bytes follow the JSON, `binary_data_size` of them."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] = {}
    data: Annotated[msgspec.Raw, Meta(extra_json_schema={"type": "array"})] = msgspec.field(default_factory=msgspec.Raw)


class Wanted(msgspec.Struct):
    """An output that is asked for; `binary_data` among the parameters: as bytes behind the JSON."""

    name: str
    parameters: dict[str, Any] = {}


class InferRequest(msgspec.Struct):
    """One tensor `features`, FP32 or FP64, [rows, inputs] in the order of the model's metadata."""

    inputs: list[TensorIn]
    id: str | None = None
    parameters: dict[str, Any] = {}
    outputs: list[Wanted] | None = None


class TensorOut(msgspec.Struct, omit_defaults=True):
    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, int] = {}
    data: list[float] | None = None


class InferResponse(msgspec.Struct, omit_defaults=True):
    """`probability` (calibrated) and `raw`, FP32 [rows]. The prediction of row i is `prediction_id`.i."""

    model_name: str
    model_version: str
    outputs: list[TensorOut]
    parameters: dict[str, str]
    id: str | None = None


def parse(body: bytes, header: bytes | None) -> tuple[InferRequest, bytes]:
    """The request, and the bytes behind its JSON. `header`: of `Inference-Header-Content-Length`. Raises ApiError."""
    size = len(body) if header is None else _length(header, len(body))
    try:
        return msgspec.json.decode(body[:size], type=InferRequest), body[size:]
    except (RecursionError, UnicodeDecodeError) as error:
        raise ApiError(400, f"expected an inference request: {error}") from None
    except msgspec.MsgspecError as error:
        field, detail = located(error)
        raise ApiError(400, f"expected an inference request: {field}: {detail}") from None


def _length(header: bytes, most: int) -> int:
    if not header.isdigit() or len(header) > 9 or int(header) > most:
        told = header.decode("latin-1")[:MAX_SHOWN]
        raise ApiError(400, f"Inference-Header-Content-Length: expected a number up to {most}, got {told!r}")
    return int(header)


def features(asked: InferRequest, behind: bytes, names: tuple[str, ...]) -> Array:
    """The tensor float32 (rows, inputs). Raises ApiError 400 that names what was expected."""
    if [tensor.name for tensor in asked.inputs] != [INPUT]:
        got = ", ".join(tensor.name for tensor in asked.inputs)[:MAX_SHOWN] or "none"
        raise ApiError(400, f"expected one input {INPUT!r}, got {got}")
    (tensor,) = asked.inputs
    if tensor.datatype not in _DTYPES:
        raise ApiError(400, f"{INPUT}: expected datatype {' or '.join(_DTYPES)}, got {tensor.datatype[:MAX_SHOWN]!r}")
    if len(tensor.shape) != 2 or tensor.shape[1] != len(names) or not 1 <= tensor.shape[0] <= MOST:
        raise ApiError(400, f"{INPUT}: expected shape [1 to {MOST}, {len(names)}], got {tensor.shape[:8]}")
    _done(tensor.parameters)
    found = _from_json(tensor) if bytes(tensor.data) not in (b"", b"null") else _from_bytes(tensor, behind)
    wrong = np.argwhere(~(np.abs(found) <= _LARGEST))  # a NaN, too
    if len(wrong):
        row, column = wrong[0].tolist()
        got = found[row, column]
        raise ApiError(400, f"{INPUT}[{row}][{column}] ({names[column]}): expected a finite FP32, got {got:g}")
    return found.astype(np.float32)


def _done(parameters: dict[str, Any]) -> None:
    for name in _UNDONE:
        if name in parameters:
            raise ApiError(400, f"parameter {name}: expected none, this server does not have it")


def _from_json(tensor: TensorIn) -> Array:
    try:
        told = np.array(msgspec.json.decode(tensor.data))
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise ApiError(400, f"{INPUT}: expected numbers in the form of the shape: {error}") from None
    if told.dtype.kind not in "iuf":
        raise ApiError(400, f"{INPUT}: expected numbers, got others among them")
    if list(told.shape) not in (tensor.shape, [math.prod(tensor.shape)]):
        raise ApiError(400, f"{INPUT}: expected data of shape {tensor.shape}, or flat, got {list(told.shape)[:8]}")
    return told.astype(np.float64).reshape(tensor.shape)


def _from_bytes(tensor: TensorIn, behind: bytes) -> Array:
    dtype, size = _DTYPES[tensor.datatype], tensor.parameters.get("binary_data_size")
    expected = math.prod(tensor.shape) * dtype.itemsize
    if size is None:
        raise ApiError(400, f"{INPUT}: expected `data`, or the parameter binary_data_size, got neither")
    if size != expected or len(behind) != expected:
        raise ApiError(
            400,
            f"{INPUT}: expected {expected} bytes behind the JSON, got {len(behind)}, and {str(size)[:20]} announced",
        )
    return np.frombuffer(behind, dtype).reshape(tensor.shape)


class Answer(msgspec.Struct):
    """A body; `header`: how much of it is JSON, where bytes follow."""

    body: bytes
    header: int | None


def wanted(asked: InferRequest) -> list[tuple[str, bool]]:
    """(output, whether as bytes) of each that is asked for. Raises ApiError 400."""
    usual = bool(asked.parameters.get("binary_data_output"))
    if asked.outputs is None:
        return [(name, usual) for name in OUTPUTS]
    for output in asked.outputs:
        if output.name not in OUTPUTS:
            raise ApiError(400, f"expected outputs among {', '.join(OUTPUTS)}, got {output.name[:MAX_SHOWN]!r}")
        _done(output.parameters)
    return [(output.name, bool(output.parameters.get("binary_data", usual))) for output in asked.outputs]


def encode(response: InferResponse, values: dict[str, Array], outputs: list[tuple[str, bool]]) -> Answer:
    """`values`: float32 (rows,) by output."""
    pieces: list[bytes] = []
    for name, binary in outputs:
        column = values[name].astype("<f4")
        out = TensorOut(name, "FP32", [len(column)])
        if binary:
            pieces.append(column.tobytes())
            out.parameters = {"binary_data_size": len(pieces[-1])}
        else:
            out.data = column.tolist()
        response.outputs.append(out)
    text = msgspec.json.encode(response)
    return Answer(b"".join([text, *pieces]), len(text) if pieces else None)
