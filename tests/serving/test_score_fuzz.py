"""Whatever JSON comes to the doors of scores: an answer or a refusal, never a fault."""

from __future__ import annotations

import json
from typing import Any

import hypothesis
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from tests.live import Live

PATH = "/v1/score/likely_to_sell"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["id", "features"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "features", "instances", "explain", "session_count_30d", "x"]), inner)
    ),
    max_leaves=8,
)
TENSORS = st.fixed_dictionaries(
    {},
    optional={
        "inputs": st.lists(
            st.fixed_dictionaries(
                {},
                optional={
                    "name": st.just("features") | JSON,
                    "shape": st.just([1, 45]) | st.lists(st.integers()) | JSON,
                    "datatype": st.sampled_from(["FP32", "FP64", "BYTES"]) | JSON,
                    "data": st.lists(st.floats(), min_size=45, max_size=45) | JSON,
                    "parameters": st.dictionaries(st.sampled_from(["binary_data_size", "x"]), JSON) | JSON,
                },
            ),
            max_size=2,
        )
        | JSON,
        "outputs": JSON,
        "id": JSON,
        "parameters": JSON,
    },
)


@hypothesis.settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(asked=JSON, tensors=TENSORS)
def test_whatever_is_asked_is_answered_or_refused(api: Live, asked: Any, tensors: Any) -> None:
    """No fault of ours, whatever JSON comes; NaN and Infinity as Python's own encoder writes them."""
    kind = {**api.login, "Content-Type": "application/json"}
    for path, body in ((PATH, asked), ("/v2/models/likely_to_sell/infer", tensors)):
        found = api.ask("POST", path, json.dumps(body).encode(), kind)
        assert found.status in {200, 400, 422}, (body, found.body)
