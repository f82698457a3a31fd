"""`telltale user ID [--follow]`: one person's features, signals, scores and reasons, moving as events come in."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any
from urllib.parse import quote

from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from feature_repo.settings import Settings
from serving.client import Closed, Door, Turned

PAUSE = 0.3  # seconds between looks
GLOW = 3.0  # seconds for which a value that moved is bright
NOT_FOUND = 404


class Person:
    """What is known of somebody, and which values moved when."""

    def __init__(self, door: Door, user: str) -> None:
        self._door = door
        self._path = f"/v1/users/{quote(user, safe='')}"
        self.user = user
        self.features: dict[str, Any] = {}
        self.signals: list[dict[str, Any]] = []
        self.scores: list[dict[str, Any]] = []
        self.at = ""
        self._moved: dict[str, float] = {}
        self._values: dict[str, Any] = {}

    def look(self, now: float) -> None:
        """Reads all anew. Raises Turned (404: nobody of that name) or Closed."""
        told = self._door.json(f"{self._path}/features")
        self.features, self.at = told["features"], told["at"] or "never"
        self.signals = self._door.json(f"{self._path}/signals?events=0")["signals"]
        self.scores = self._door.json(f"{self._path}/scores")["scores"]
        self._note(now)

    def style(self, name: str, now: float) -> str:
        return "bold green" if now - self._moved.get(name, -GLOW) < GLOW else ""

    def _note(self, now: float) -> None:
        values = {name: told["value"] for name, told in self.features.items()}
        values |= {f"signal {s['name']}": s["strength"] for s in self.signals}
        values |= {f"score {s['model']}": s["score"] for s in self.scores}
        if self._values:
            self._moved |= {name: now for name, value in values.items() if self._values.get(name) != value}
        self._values = values


def once(settings: Settings, key: str, user: str) -> None:
    """Prints it. Raises Turned or Closed."""
    with closing(Door(settings, key)) as door:
        person = Person(door, user)
        person.look(0.0)
        Console(highlight=False).print(render(person, GLOW))


def follow(settings: Settings, key: str, user: str) -> None:
    """Shows it until Ctrl-C; waits for somebody of whom nothing is known yet."""
    console = Console(highlight=False)
    with closing(Door(settings, key)) as door, Live(console=console, auto_refresh=False, screen=True) as live:
        person = Person(door, user)
        while True:
            live.update(_glance(person), refresh=True)
            time.sleep(PAUSE)


def _glance(person: Person) -> RenderableType:
    now = time.monotonic()
    try:
        person.look(now)
    except Turned as error:
        if error.status != NOT_FOUND:
            raise
        return Text(f"nothing is known of {person.user} yet; waiting")
    except Closed as error:
        return Text(str(error))
    return render(person, now)


def render(person: Person, now: float) -> RenderableType:
    head = Text(f"{person.user}, as of {person.at}", style="bold")
    left = Group(_scores(person, now), _signals(person, now))
    return Group(head, Columns([_features(person, now), left], padding=(0, 2)))


def _features(person: Person, now: float) -> Table:
    table = Table("feature", "value", "unit", box=None, header_style="dim")
    table.columns[1].justify = "right"
    for name, told in person.features.items():
        table.add_row(name, _number(told["value"]), Text(told["unit"], "dim"), style=person.style(name, now))
    return table


def _signals(person: Person, now: float) -> Table:
    table = Table("signal", "strength", "confidence", "counts", box=None, header_style="dim")
    for signal in person.signals:
        counts = ", ".join(f"{name} {_number(count)}" for name, count in signal["counts"].items())
        style = person.style(f"signal {signal['name']}", now)
        table.add_row(signal["name"], f"{signal['strength']:.2f}", f"{signal['confidence']:.2f}", counts, style=style)
    return table


def _scores(person: Person, now: float) -> Table:
    table = Table("model", "score", "threshold", "reasons", box=None, header_style="dim")
    for score in person.scores:
        reasons = "\n".join(reason["says"] for reason in score["reasons"])
        style = "bold red" if score["score"] >= score["threshold"] else person.style(f"score {score['model']}", now)
        table.add_row(score["model"], f"{score['score']:.3f}", f"{score['threshold']:.3f}", reasons, style=style)
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.3f}".rstrip("0").rstrip(".")
