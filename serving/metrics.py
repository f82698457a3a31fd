"""/metrics in Prometheus' text format (https://prometheus.io/docs/instrumenting/exposition_formats/).

Counts and positions are read in one transaction, so that
accepted = processed + duplicate + unknown + late + quarantined + lost + lag holds at every reading.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from feature_repo import keys
from flows import losses
from flows.members import engines
from flows.partition import entry_id
from flows.progress import OUTCOMES
from flows.resp import pack
from serving import api
from serving.front import BUCKETS, Requests
from serving.health import log_ends
from serving.openapi import Operation

TEXT = "text/plain; version=0.0.4; charset=utf-8"
Labels = dict[str, Any]
ENGINE = {  # what an engine says of itself (`flows/housekeeping.py`), in words; it starts anew with each share
    "alive_at": "when the engine last spoke, seconds since 1970; for an hour after it died",
    "partitions": "how many partitions the engine works",
    "history": "1 while what the engine reads is history, at which nothing fires",
    "clock_ms": "the log's time that the engine has reached, milliseconds since 1970",
    "events": "events read from the log and worked since the engine started",
    "users_written": "writes of a person's features since the engine started",
    "users_cached": "people whose state the engine holds in memory",
    "cache_hits": "people found in the engine's memory since it started",
    "cache_misses": "people who had to be read from the store since the engine started",
    "cache_evicted": "people put out of the engine's memory since it started; they stay in the store",
    "dedup_ids": "messageIds that the engine remembers",
    "dedup_horizon_hours": "how far back messageIds are remembered, hours of the log's time",
    "oldest_unflushed_ms": "how long the oldest work that is not yet written has waited, milliseconds",
    "unflushed_ms": "the same of each partition",
    "stage_seconds_total": "seconds spent in each stage of the work since the engine started",
}

LAKE = {"dates_removed_total": "directories of dates that TELLTALE_LAKE_DAYS removed from the lake"}
PREDICTIONS = {  # what the scoring doors wrote down
    "logged": "answered predictions written down for the lake since the store was created",
    "dropped": "answered predictions that nobody wrote down, since the lake did not come for those before",
}
DELIVERY = {  # of the process that delivers: metric, what it is
    "waiting": ("deliveries_waiting", "deliveries that wait for their moment, their turn or their next attempt"),
    "active": ("deliveries_active", "deliveries under way"),
    "dead": ("deliveries_dead", "deliveries in the dead list"),
    "done": ("deliveries_done_total", "deliveries done since the database was created"),
    "failed": ("delivery_attempts_failed_total", "attempts that failed since the database was created"),
    "folded": ("deliveries_folded_total", "deliveries folded into a digest since the database was created"),
    "cancelled": ("deliveries_cancelled_total", "deliveries cancelled with their target"),
    "oldest_seconds": ("deliveries_oldest_seconds", "age of the oldest delivery that waits"),
    "overdue_seconds": ("deliveries_overdue_seconds", "how long the longest due delivery has been due"),
    "breakers_open": ("delivery_breakers_open", "targets that are left alone for a while since they failed"),
    "alive_at": ("delivery_alive_at", "when the process that delivers last spoke, seconds since 1970"),
}
LEARNING = {  # of the process that learns from outcomes
    "alive_at": ("learning_alive_at", "when the process that learns last spoke, seconds since 1970"),
    "learned": ("learning_labels_total", "labels learned since the database was created, corrections among them"),
    "corrected": ("learning_corrections_total", "corrections among the labels learned"),
    "open": ("learning_scores_open", "scores that wait for their label, or for the end of its horizon"),
    "waiting": ("learning_predictions_waiting", "outcomes that wait for the lake to have their prediction"),
    "set_aside": ("learning_set_aside_total", "outcomes that were not learned"),
    "alarms": ("learning_alarms", "changes of a model's errors that were noticed, and floods; the latest 50 a learner"),
    "alarm_at": ("learning_alarm_first_seconds", "when the latest of them was first seen, seconds since 1970"),
    "alarm_size": ("learning_alarm_size", "how far the mean error moved in the latest of them"),
    "calibrations": ("learning_calibrations", "organisations whose scores an online calibration moves"),
}
GONE = "events that were accepted and that the store does not have any more: it was emptied, or restored older"
MISSING = "events accepted that are not in the lake: they were gone from the log before it came for them"
NOBODY_CAME = "outcome events dropped because nobody came to learn from them"
CONSISTENCY = {  # what `telltale consistency` found last; absent until it ran
    "at_seconds": "when it ran, seconds since 1970",
    "rows": "served rows that were computed again",
    "rows_differing": "rows of them in which a value differs",
    "share": "share of them that differ: 0 is the goal",
}


class Metric(msgspec.Struct):
    """One metric and its series; `samples`: (suffix of the name, labels, value)."""

    name: str
    kind: str
    help: str
    samples: list[tuple[str, Labels, float]]

    def lines(self) -> Iterator[str]:
        yield f"# HELP {self.name} {self.help}"
        yield f"# TYPE {self.name} {self.kind}"
        for suffix, labels, value in self.samples:
            yield f"{self.name}{suffix}{_labels(labels)} {value!r}"


class Reading(msgspec.Struct):
    """One partition at one moment: its counts, and the ids of its log's newest and oldest waiting entry."""

    counts: dict[str, int]
    newest: bytes
    waiting: bytes | None

    @property
    def lag(self) -> int:
        return self.counts.get("accepted", 0) - sum(self.counts.get(name, 0) for name in OUTCOMES)

    def lag_seconds(self, now_ms: int | None) -> float:
        """How long the oldest waiting entry waits, by the store's clock; by the log's where `now_ms` is None."""
        if self.waiting is None:
            return 0.0
        now = entry_id(self.newest).ms if now_ms is None else now_ms
        return max(now - entry_id(self.waiting).ms, 0) / 1000


class Said(msgspec.Struct):
    """What processes said of themselves, engines by name; `dropped`: rows of served features, by partition, that no
    lake came for; `outcomes_dropped`: outcome events that nobody learned from.
    """

    engine: dict[str, dict[str, float]]
    lake: dict[str, float]
    consistency: dict[str, float]
    predictions: dict[str, float]
    delivery: dict[str, float]
    learning: dict[str, float]
    dropped: list[int]
    outcomes_dropped: list[int]


async def metrics(request: Request) -> Response:
    parts = api.of(request)
    readings, said, now = await _read(parts)
    wall = now if parts.store.clock == "wall" else None
    standing = losses.answered((await parts.client.call(losses.packed(parts.store)))[0])
    found = [
        *_events(readings),
        _partitioned("telltale_events_lag", "events accepted and not yet worked", [r.lag for r in readings]),
        _partitioned(
            "telltale_lag_seconds", "age of the oldest entry that waits", [r.lag_seconds(wall) for r in readings]
        ),
        _partitioned("telltale_events_gone", GONE, losses.behind(parts.appender.mark.ends, standing)),
        _partitioned("telltale_lake_missing_total", MISSING, [p.missing for p in standing.partitions], "counter"),
        *_engine(said.engine),
        *_lake(said),
        *_told(DELIVERY, "channel", said.delivery),
        *_told(LEARNING, "", said.learning),
        _partitioned("telltale_outcomes_dropped_total", NOBODY_CAME, said.outcomes_dropped, "counter"),
        *_requests(request.app.state.requests),
        Metric("telltale_api_uptime_seconds", "gauge", "since the API started", [
            ("", {}, time.monotonic() - parts.started)
        ]),
    ]  # fmt: skip
    return Response("\n".join(line for metric in found for line in metric.lines()) + "\n", media_type=TEXT)


async def _read(parts: api.Api) -> tuple[list[Reading], Said, int]:
    """(partitions, what the processes said of themselves, the store's time in ms), all of one moment."""
    partitions = range(parts.store.partitions)
    (told_by,) = await parts.client.call(pack("HGETALL", keys.ENGINES))
    alive = engines(dict(_pairs(told_by)))
    commands = [command for p in partitions for command in (pack("HGETALL", keys.counts(p)), log_ends(p))]
    commands += [
        pack("GET", counter(p)) for counter in (keys.served_dropped, keys.outcomes_dropped) for p in partitions
    ]
    hashes = keys.LAKE, keys.CONSISTENCY, keys.PREDICTION_COUNTS, keys.DELIVERY, keys.LEARNING
    commands += [*(pack("HGETALL", name) for name in (*hashes, *map(keys.gauges, alive))), pack("TIME")]
    answer = (await parts.client.call(pack("MULTI"), *commands, pack("EXEC")))[-1]
    n = len(partitions)
    pairs, dropped, told, (seconds, micros) = answer[: 2 * n], answer[2 * n : 4 * n], answer[4 * n : -1], answer[-1]
    readings = [
        Reading({name.decode(): int(value) for name, value in _pairs(counts)}, newest, waiting)
        for counts, (newest, waiting) in zip(pairs[::2], pairs[1::2], strict=True)
    ]
    lost = [int(count or 0) for count in dropped]
    lake, consistency, predictions, delivery, learning, *gauges = map(_numbers, told)
    engine = {
        name: {"alive_at": said.at / 1000, **one} for (name, said), one in zip(alive.items(), gauges, strict=True)
    }
    said = Said(engine, lake, consistency, predictions, delivery, learning, lost[:n], lost[n:])
    return readings, said, int(seconds) * 1000 + int(micros) // 1000


def _numbers(flat: list[bytes]) -> dict[str, float]:
    return {name.decode(): float(value) for name, value in _pairs(flat)}


def _pairs(flat: list[bytes]) -> Iterable[tuple[bytes, bytes]]:
    return zip(flat[::2], flat[1::2], strict=True)


def _partitioned(name: str, meaning: str, values: Iterable[float], kind: str = "gauge") -> Metric:
    return Metric(name, kind, meaning, [("", {"partition": p}, value) for p, value in enumerate(values)])


def _events(readings: list[Reading]) -> list[Metric]:
    return [
        _partitioned(
            f"telltale_events_{name}_total",
            f"events {name} since the store was created",
            [r.counts.get(name, 0) for r in readings],
            "counter",
        )
        for name in ("accepted", *OUTCOMES)
    ]


def _engine(said: dict[str, dict[str, float]]) -> list[Metric]:
    """`name`, `name@partition` or `name:stage@partition` in the store becomes telltale_engine_name with its labels."""
    found: dict[str, Metric] = {}
    for field, engine, value in sorted((field, engine, n) for engine, one in said.items() for field, n in one.items()):
        named, _, partition = field.partition("@")
        name, _, stage = named.partition(":")
        kind = "counter" if name.endswith("_total") else "gauge"
        metric = found.setdefault(name, Metric(f"telltale_engine_{name}", kind, ENGINE.get(name, name), []))
        labels = {"engine": engine, "partition": partition, "stage": stage}
        metric.samples.append(("", {label: what for label, what in labels.items() if what}, value))
    return list(found.values())


def _lake(said: Said) -> list[Metric]:
    meaning = "rows of served features dropped because no lake came for them"
    found = [_partitioned("telltale_served_dropped_total", meaning, said.dropped, "counter")]
    for prefix, meanings, values in (("lake", LAKE, said.lake), ("consistency", CONSISTENCY, said.consistency)):
        for name in sorted(values.keys() & meanings.keys()):
            kind = "counter" if name.endswith("_total") else "gauge"
            found.append(Metric(f"telltale_{prefix}_{name}", kind, meanings[name], [("", {}, values[name])]))
    for name, meaning in PREDICTIONS.items():
        count = said.predictions.get(name, 0.0)
        found.append(Metric(f"telltale_predictions_{name}_total", "counter", meaning, [("", {}, count)]))
    return found


def _told(meanings: dict[str, tuple[str, str]], label: str, said: dict[str, float]) -> list[Metric]:
    """`name`, or `name@value of the label`, or `name@label=value`."""
    found: dict[str, Metric] = {}
    for field, value in sorted(said.items()):
        name, _, of = field.partition("@")
        if name not in meanings:  # a process of another version said it
            continue
        metric, meaning = meanings[name]
        kind = "counter" if metric.endswith("_total") else "gauge"
        series = found.setdefault(name, Metric(f"telltale_{metric}", kind, meaning, []))
        named, _, told = of.rpartition("=")
        series.samples.append(("", {named or label: told} if told else {}, value))
    return list(found.values())


def _requests(requests: Requests) -> list[Metric]:
    answered = [("", {"route": r, "status": s}, float(n)) for (r, s), n in sorted(requests.answered.items())]
    seconds = [sample for route in sorted(requests.buckets) for sample in _histogram(requests, route)]
    return [
        Metric("telltale_api_requests_total", "counter", "requests answered", answered),
        Metric("telltale_api_request_seconds", "histogram", "from the headers to the end of the answer", seconds),
    ]


def _histogram(requests: Requests, route: str) -> Iterator[tuple[str, Labels, float]]:
    below = 0
    for limit, count in zip((*BUCKETS, "+Inf"), requests.buckets[route], strict=True):
        below += count
        yield "_bucket", {"route": route, "le": limit}, below
    yield "_sum", {"route": route}, requests.seconds[route]
    yield "_count", {"route": route}, below


def _labels(labels: Labels) -> str:
    inside = ",".join(f'{name}="{_escaped(str(value))}"' for name, value in labels.items())
    return f"{{{inside}}}" if inside else ""


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


routes = [Route("/metrics", metrics)]
operations = [Operation(path="/metrics", summary="For Prometheus", tag="Operations", media="text/plain")]
