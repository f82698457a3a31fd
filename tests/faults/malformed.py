"""Fault: requests that are framed wrong, too large, or nearly right, over raw sockets, while good events come in."""

from __future__ import annotations

import contextlib
import gzip
import json
import random
import re
import socket
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from serving.client import Door
from tests.faults import fuzz_targets
from tests.faults.crowds import LOGIN
from tests.faults.found import Found
from tests.faults.steady import Steady, account, whole
from tests.faults.wire_shapes import head, malformed, oversized
from tests.live import KEY
from tests.serving.test_malformed import FIELDS, JSON, NEARLY, dumped

AT_ONCE = 5.0  # seconds in which a good event is answered after whatever came before, on a shared machine
EXAMPLES = 200  # nearly right requests a round
REFUSED = {400, 413, 415, 431}
# Good ones, of which one field may be anything.
CALLS = st.builds(
    lambda call, other: {**call, **other},
    st.sampled_from(fuzz_targets.CALLS),
    st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=1),
)
STATUS = re.compile(rb"HTTP/1\.1 (\d{3})")


class Tally:
    """What came of hostile requests."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.accepted, self.sent, self.slowest = 0, 0, 0.0


def run(budget: float, dice: random.Random, home: Path) -> Found:
    """All shapes once, then requests that are nearly right as long as there is time."""
    with closing(whole(home)) as up, closing(Door(up.settings, KEY)) as door:
        good, tally, port = Steady(up.settings, dice.getrandbits(32)), Tally(), up.settings.port
        good.start()
        began = time.monotonic()
        for name, raw in malformed(LOGIN).items():
            _refused(name, port, [raw], tally)
            _answers(door, tally)
        for name, pieces in oversized(LOGIN).items():
            _refused(name, port, pieces, tally)
            _answers(door, tally)
        while time.monotonic() - began < budget - 15:
            _nearly(port, dice.getrandbits(64), tally)
            _answers(door, tally)
        good.end()
        found = account(up.settings, good)
    return Found(
        runs=tally.sent,
        events=good.acknowledged.total(),
        lost=found.lost,
        doubled=found.doubled,
        phantom=max(0, found.phantom - tally.accepted),
        recovery_s=[found.recovery],
        notes={
            "shapes": float(len(malformed(LOGIN)) + len(oversized(LOGIN))),
            **{f"answers_{status}": float(count) for status, count in sorted(tally.statuses.items())},
            "good_p99_ms": good.milliseconds(99),
            "good_at_once_s": tally.slowest,
        },
    )


def _refused(name: str, port: int, pieces: Iterable[bytes], tally: Tally) -> None:
    """Raises AssertionError unless the first answer is a refusal."""
    answer = sent(port, pieces)
    found = STATUS.match(answer)
    assert found, f"expected a refusal of {name}, got {answer[:200]!r}"
    assert int(found[1]) in REFUSED, f"expected one of {sorted(REFUSED)} for {name}, got {answer[:300]!r}"
    tally.statuses[int(found[1])] += 1
    tally.sent += 1


def sent(port: int, pieces: Iterable[bytes]) -> bytes:
    """What is answered until the connection ends, or a whole answer is there."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as line:
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                line.sendall(piece)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while not _whole(answer) and (piece := line.recv(1 << 16)):
                answer += piece
        return answer


def _whole(answer: bytes) -> bool:
    top, _, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", top, re.IGNORECASE)
    return length is not None and len(body) >= int(length[1])


def _answers(door: Door, tally: Tally) -> None:
    """A good event is stored at once."""
    began = time.monotonic()
    door.post("/v1/track", b'{"userId":"beside","event":"Document Viewed"}', {})
    took = time.monotonic() - began
    assert took < AT_ONCE, f"expected a good event to be stored at once, it took {took:.1f} s"
    tally.slowest, tally.accepted = max(tally.slowest, took), tally.accepted + 1


def _nearly(port: int, number: int, tally: Tally) -> None:
    """Calls and batches that are right, nearly right, or noise; whole, in chunks of any size, or compressed."""

    @seed(number)
    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(
        body=st.one_of(CALLS, CALLS, st.lists(CALLS | NEARLY, min_size=1, max_size=4).map(_batch), JSON).map(dumped),
        cuts=st.lists(st.integers(1, 60), max_size=6),
        packed=st.booleans(),
    )
    def ask(body: bytes, cuts: list[int], packed: bool) -> None:
        lines = (b"content-encoding: gzip",) if packed else ()
        raw = gzip.compress(body) if packed else body
        path = b"/v1/batch" if b'"batch"' in body else b"/v1/track"
        framed = _chunked(raw, cuts) if cuts else raw
        length = b"transfer-encoding: chunked" if cuts else b"content-length: %d" % len(raw)
        answer = sent(port, [head(LOGIN, length, *lines, path=path) + framed])
        found = STATUS.match(answer)
        status = int(found[1]) if found else 0
        assert status in {200, 400, 413}, f"expected 200 or a refusal of {body!r}, got {answer[:300]!r}"
        tally.statuses[status] += 1
        tally.sent += 1
        tally.accepted += _accepted(answer) if status == 200 else 0

    ask()


def _batch(calls: list[Any]) -> dict[str, Any]:
    return {"batch": calls}


def _chunked(raw: bytes, cuts: list[int]) -> bytes:
    pieces, at = [], 0
    for cut in cuts:
        pieces.append(raw[at : at + cut])
        at += cut
    sizes = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in [*pieces, raw[at:]] if piece]
    return b"".join([*sizes, b"0\r\n\r\n"])


def _accepted(answer: bytes) -> int:
    return int(json.loads(answer.partition(b"\r\n\r\n")[2]).get("accepted", 1))
