"""Training jobs that were asked for over HTTP: one at a time a model, each in a process that ends with this one.

What a job says of itself lies in `TELLTALE_HOME/trainings/<model>/<job>/`: labels.csv, progress.jsonl, output.log.
"""

from __future__ import annotations

import contextlib
import csv
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from feature_repo.settings import Settings
from flows.lifeline import leashed
from onnx_models.card import Gate
from serving.supervisor import environment

LABELS = "labels.csv"
KEPT = 20  # jobs of a model that are remembered
_JOB = re.compile(r"\d{14}-[0-9a-f]{8}")
_Row = dict[str, str | int | float | bool | None]


class Busy(Exception):
    """A job of this model is still running; `job` is its id."""

    def __init__(self, model: str, job: str) -> None:
        super().__init__(f"{model} is being trained already, by job {job}")
        self.job = job


class TrainRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to train on. Without `labels`, `simulated`, `online`: on what the model's own label finds in the lake.

    `labels`: rows of `user` (or the model's entity), `as_of` (ISO 8601) and `label` (0 or 1), and columns of your own.
    `promote`: deploy it at once if it passes its gates. `trials`, `seconds`: of tuning, at most.
    """

    labels: Annotated[list[_Row], Meta(min_length=1)] | None = None
    simulated: bool = False
    online: Annotated[bool, Meta(description="what its online challenger learned from outcomes")] = False
    promote: bool = False
    trials: Annotated[int, Meta(ge=1, le=1_000)] | None = None
    seconds: Annotated[float, Meta(ge=0, le=86_400)] | None = None
    seed: Annotated[int, Meta(ge=0, le=2**32 - 1)] | None = None
    people: Annotated[int, Meta(ge=100, le=100_000, description="simulated ones")] | None = None


class TrainStep(msgspec.Struct, frozen=True):
    """`done` of `of` parts of a step."""

    step: str
    done: float = 0
    of: float = 1


class TrainedVersion(msgspec.Struct, frozen=True):
    """What came of a model: its version, the state that it earned, and how good it is on rows kept aside."""

    model: str
    version: str
    state: str
    why: str
    metrics: dict[str, float] = {}
    gates: list[Gate] = []


class Training(msgspec.Struct, frozen=True):
    """A job. `progress`: the step that it is at. `result`: each version made, its state, figures and gates."""

    job: str
    model: str
    state: Literal["running", "done", "failed"]
    progress: TrainStep | None = None
    result: list[TrainedVersion] | None = None
    error: str | None = None


class _Line(msgspec.Struct):
    step: str | None = None
    done: float = 0
    of: float = 1
    result: list[TrainedVersion] | None = None
    error: str | None = None


class Trainings:
    """Starts jobs, from a thread that lives as long as they may; tells of each what it wrote."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._running: dict[str, tuple[str, subprocess.Popen[bytes]]] = {}

    def prepare(self, model: str, asked: TrainRequest) -> str:
        """The id of a job about to begin, whose labels are written."""
        job = f"{datetime.now(UTC):%Y%m%d%H%M%S}-{secrets.token_hex(4)}"
        place = self._place(model) / job
        place.mkdir(parents=True)
        if asked.labels is not None:
            _write(place / LABELS, asked.labels)
        self._forget(model)
        return job

    def start(self, model: str, job: str, asked: TrainRequest, organisation: str) -> Training:
        """Raises Busy."""
        running, process = self._running.get(model, ("", None))
        place = self._place(model) / job
        if process is not None and process.poll() is None:
            shutil.rmtree(place, ignore_errors=True)
            raise Busy(model, running)
        with (place / "output.log").open("wb") as output:
            process = subprocess.Popen(
                leashed(_command(model, asked, organisation, place)),
                env=environment(self._settings),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._running[model] = job, process
        return Training(job, model, "running")

    def told(self, model: str, job: str) -> Training | None:
        """None: there is no such job."""
        place = self._place(model) / job
        if not _JOB.fullmatch(job) or not place.is_dir():
            return None
        last = _last(place / "progress.jsonl")
        at = TrainStep(last.step, last.done, last.of) if last.step else None
        running, process = self._running.get(model, ("", None))
        if running == job and process is not None and process.poll() is None:
            return Training(job, model, "running", at)
        if last.result is not None:
            return Training(job, model, "done", result=last.result)
        return Training(job, model, "failed", at, error=last.error or _complaint(place / "output.log"))

    def jobs(self, model: str) -> list[Training]:
        """Latest first."""
        place = self._place(model)
        found = sorted((path.name for path in place.iterdir()), reverse=True) if place.is_dir() else []
        return [told for job in found if (told := self.told(model, job))]

    def stop(self) -> None:
        """Ends what runs."""
        for _, process in self._running.values():
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        for _, process in self._running.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(2)

    def _place(self, model: str) -> Path:
        return self._settings.home / "trainings" / model

    def _forget(self, model: str) -> None:
        for old in sorted(self._place(model).iterdir())[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)


def _command(model: str, asked: TrainRequest, organisation: str, place: Path) -> list[str]:
    """At low priority, so that whoever scores goes first."""
    words = [sys.executable, "-m", "training", "train", model, "--progress", str(place / "progress.jsonl")]
    words += ["--organisation", organisation]
    for name in ("simulated", "online", "promote"):
        words += [f"--{name}"] if getattr(asked, name) else []
    for name in ("trials", "seconds", "seed", "people"):
        value = getattr(asked, name)
        words += [] if value is None else [f"--{name}", str(value)]
    words += [] if asked.labels is None else ["--labels", str(place / LABELS)]
    nice = shutil.which("nice")
    return [nice, "-n", "10", *words] if nice else words


def _write(file: Path, rows: Sequence[_Row]) -> None:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with file.open("w", encoding="utf-8", newline="") as out:
        table = csv.DictWriter(out, columns)
        table.writeheader()
        table.writerows({k: int(v) if isinstance(v, bool) else v for k, v in row.items()} for row in rows)


def _last(file: Path) -> _Line:
    """The last whole line; an empty one where there is none."""
    try:
        lines = file.read_bytes().rpartition(b"\n")[0].splitlines()
    except FileNotFoundError:
        return _Line()
    steps = [msgspec.json.decode(line, type=_Line) for line in lines[-2:]]
    if len(steps) == 2 and steps[1].error and not steps[1].step:  # where it was when it failed
        return msgspec.structs.replace(steps[0], error=steps[1].error)
    return steps[-1] if steps else _Line()


def _complaint(log: Path) -> str:
    """What a job said last that left no result."""
    said = log.read_text(encoding="utf-8", errors="replace").strip() if log.exists() else ""
    return said.splitlines()[-1][:1000] if said else "it ended before it was done"
