"""The Open Inference Protocol v2, by the client that Triton's users have; it changes the headers that it is given."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import msgspec
import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from feature_repo.vocabulary import Vocabulary
from onnx_models import registry
from tests.live import Live

SELL = "likely_to_sell"
INPUTS = next(s.features for s in Vocabulary().services if s.name == SELL)
ROWS = np.random.default_rng(6).integers(0, 9, (300, len(INPUTS))).astype(np.float32)


@pytest.fixture
def client(api: Live) -> Iterator[triton.InferenceServerClient]:
    with closing(triton.InferenceServerClient(f"127.0.0.1:{api.port}")) as made:
        yield made


def tensor(rows: Any, datatype: str = "FP32", *, binary: bool = True, name: str = "features") -> triton.InferInput:
    made = triton.InferInput(name, list(rows.shape), datatype)
    made.set_data_from_numpy(rows, binary_data=binary)
    return made


def test_server_and_models_say_what_they_are(api: Live, client: triton.InferenceServerClient) -> None:
    """Health without a key, all else with one."""
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(SELL, headers=dict(api.login))
    assert not client.is_model_ready("nothing", headers=dict(api.login))
    assert client.get_server_metadata(headers=dict(api.login))["extensions"] == ["binary_tensor_data"]
    told = client.get_model_metadata(SELL, headers=dict(api.login))
    assert told["versions"] == [registry.newest(SELL).version]
    assert told["inputs"] == [{"name": "features", "datatype": "FP32", "shape": [-1, len(INPUTS)]}]
    assert told["parameters"]["features"] == list(INPUTS)
    assert client.get_model_metadata(SELL, told["versions"][0], headers=dict(api.login)) == told


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
@pytest.mark.parametrize("rows", [ROWS[:1], ROWS])
def test_answers_are_the_model_s_own(
    api: Live, client: triton.InferenceServerClient, rows: Any, *, binary_in: bool, binary_out: bool | None
) -> None:
    """Bit for bit, whether tensors go as bytes or as JSON, in either direction; `None`: as the client would."""
    wanted = None
    if binary_out is not None:
        wanted = [triton.InferRequestedOutput(name, binary_data=binary_out) for name in ("raw", "probability")]
    found = client.infer(
        SELL, [tensor(rows, binary=binary_in)], request_id="r1", outputs=wanted, headers=dict(api.login),
        request_compression_algorithm="gzip",
    )  # fmt: skip
    raw, probability = registry.newest(SELL).scores(rows)
    assert np.array_equal(found.as_numpy("raw"), raw)
    assert np.array_equal(found.as_numpy("probability"), probability)
    response = found.get_response()
    assert (response["id"], response["model_name"]) == ("r1", SELL)
    if wanted:
        assert [output["name"] for output in response["outputs"]] == ["raw", "probability"]
    outcome = api.post(f"/v1/predictions/{response['parameters']['prediction_id']}.0/outcome", {"outcome": 1})
    assert outcome.status == 200


def test_a_version_may_be_named(api: Live, client: triton.InferenceServerClient) -> None:
    """One that is loaded."""
    version = registry.newest(SELL).version
    found = client.infer(SELL, [tensor(ROWS[:2])], model_version=version, headers=dict(api.login))
    assert found.get_response()["model_version"] == version
    with pytest.raises(InferenceServerException, match=f"there are {version}"):
        client.infer(SELL, [tensor(ROWS[:2])], model_version="1", headers=dict(api.login))


def nan_at(row: int, column: int, value: float) -> Any:
    rows = ROWS[:4].copy()
    rows[row, column] = value
    return rows


@pytest.mark.parametrize(
    ("model", "given", "expected"),
    [
        ("nothing", tensor(ROWS), "there is no model 'nothing' loaded; there are .*likely_to_buy"),
        (SELL, tensor(ROWS, name="x"), "expected one input 'features', got x"),
        (SELL, tensor(ROWS[:, :3]), r"expected shape \[1 to 10000, 45\], got \[300, 3\]"),
        (SELL, tensor(ROWS[0]), r"expected shape \[1 to 10000, 45\], got \[45\]"),
        (SELL, tensor(ROWS[:0]), r"expected shape \[1 to 10000, 45\], got \[0, 45\]"),
        (SELL, tensor(ROWS.astype(np.int64), "INT64"), "expected datatype FP32 or FP64, got 'INT64'"),
        (SELL, tensor(nan_at(2, 1, np.nan)), rf"features\[2\]\[1\] \({INPUTS[1]}\): expected a finite FP32, got nan"),
        (SELL, tensor(nan_at(0, 44, np.inf)), r"features\[0\]\[44\] .*: expected a finite FP32, got inf"),
        (SELL, tensor(np.full((1, 45), 1e300), "FP64"), r"features\[0\]\[0\] .*: expected a finite FP32, got 1e\+300"),
    ],
)
def test_what_cannot_be_inferred_is_told(
    api: Live, client: triton.InferenceServerClient, model: str, given: Any, expected: str
) -> None:
    """What was expected and what came, in the protocol's own form."""
    with pytest.raises(InferenceServerException, match=expected) as caught:
        client.infer(model, [given], headers=dict(api.login))
    assert caught.value.status() in {"400", "404"}


def test_without_a_key_nobody_is_answered(client: triton.InferenceServerClient) -> None:
    """And the client can read why."""
    with pytest.raises(InferenceServerException, match="a write key is needed") as caught:
        client.infer(SELL, [tensor(ROWS)])
    assert caught.value.status() == "401"


GOOD = {"name": "features", "shape": [1, 45], "datatype": "FP32", "data": [[0.5] * 45]}
HEADER = "Inference-Header-Content-Length"


@pytest.mark.parametrize(
    ("body", "header", "expected"),
    [
        (b"{", None, "expected an inference request"),
        (b"[" * 5000, None, "expected an inference request"),
        (b"\xff", None, "expected an inference request"),
        (b"{}", None, "expected an inference request: inputs"),
        (GOOD | {"data": [[0.5] * 44]}, None, "expected data of shape"),
        (GOOD | {"data": [[0.5], [0.5, 1]]}, None, "expected numbers in the form of the shape"),
        (GOOD | {"data": ["1"] * 45}, None, "expected numbers, got others"),
        (GOOD | {"data": [True] * 45}, None, "expected numbers, got others"),
        (GOOD | {"data": None}, None, "expected `data`"),
        (GOOD | {"shape": [-1, 45]}, None, "expected shape"),
        (GOOD | {"shape": [1 << 62, 45]}, None, "expected shape"),
        (GOOD, "9999999", "expected a number up to"),
        (GOOD, "minus", "expected a number up to"),
        (GOOD | {"parameters": {"shared_memory_region": "r"}}, None, "does not have it"),
    ],
)
def test_what_no_client_sends_is_refused(api: Live, body: Any, header: str | None, expected: str) -> None:
    """With 400, whatever it is."""
    raw = body if isinstance(body, bytes) else msgspec.json.encode({"inputs": [body]})
    headers = api.login | ({HEADER: header} if header else {})
    answer = api.ask("POST", f"/v2/models/{SELL}/infer", raw, headers)
    assert answer.status == 400
    assert expected in json.loads(answer.body)["error"]


def test_other_methods_and_paths_are_refused_in_the_same_form(api: Live) -> None:
    """A client that reads `error` finds it."""
    for method, path, status in (("GET", f"/v2/models/{SELL}/infer", 405), ("GET", "/v2/models", 404)):
        answer = api.ask(method, path)
        assert (answer.status, list(answer.json)) == (status, ["error"])
