"""How far a job is: a bar on the terminal, and JSON lines in a file for whoever started it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

STEPS = ("rows", "validate", "tune", "fit", "judge", "export", "register")


class Progress:
    """`{"model", "step", "done", "of"}` a line; the last line is the result, `{"result": ...}` or `{"error": ...}`."""

    def __init__(self, file: Path | None = None) -> None:
        """Raises OSError where the file cannot be written."""
        self._file = file.open("ab", buffering=0) if file else None
        self._bar = Bar(
            TextColumn("{task.description:>24}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self._task: TaskID | None = None
        self._model = ""

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._bar.stop()
        if error:
            self._write({"error": str(error) or type(error).__name__})
        if self._file:
            self._file.close()

    def of(self, model: str) -> None:
        """What comes now is about this model."""
        self._model = model

    def step(self, step: str, done: int = 0, of: int = 1) -> None:
        """`done` of `of` parts of a step are over."""
        self._write({"model": self._model, "step": step, "done": done, "of": of})
        description = f"{self._model} {step}".strip()
        if self._task is None:
            self._task = self._bar.add_task(description, total=of)
        self._bar.update(self._task, description=description, completed=done, total=of)

    def result(self, found: list[dict[str, Any]]) -> None:
        """What came of each model: the last line."""
        self._write({"result": found})

    def _write(self, line: dict[str, Any]) -> None:
        if self._file:
            self._file.write(msgspec.json.encode(line) + b"\n")
