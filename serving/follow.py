"""`telltale user ID [--follow]`: one person's scores, reasons, signals and features, moving as events come in."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any
from urllib.parse import quote

from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.text import Text

from feature_repo import vocabulary
from feature_repo.settings import Settings
from serving.client import Closed, Door, Turned

PAUSE = 0.3  # seconds between looks
GLOW = 3.0  # seconds for which a value that moved is bright
REASONS = 3  # that raised a score, shown of each
NOT_FOUND = 404


class Person:
    """What is known of somebody, and which values moved when."""

    def __init__(self, door: Door, user: str, usual: Mapping[str, float]) -> None:
        """`usual`: of each feature the value that says nothing."""
        self._door = door
        self._usual = usual
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

    def telling(self) -> list[str]:
        """The features that have left their default, or moved since we look."""
        return [
            name
            for name, told in self.features.items()
            if name in self._moved or told["value"] not in (None, self._usual.get(name))
        ]

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
        person = Person(door, user, _usual(settings))
        person.look(0.0)
        Console(highlight=False).print(render(person, GLOW))


def follow(settings: Settings, key: str, user: str) -> None:
    """Shows it until Ctrl-C; waits for somebody of whom nothing is known yet."""
    console = Console(highlight=False)
    with closing(Door(settings, key)) as door:
        person = Person(door, user, _usual(settings))
        (_show if console.is_terminal else _print)(console, person)


def _show(console: Console, person: Person) -> None:
    with Live(console=console, auto_refresh=False, screen=True) as live:
        while True:
            live.update(_glance(person), refresh=True)
            time.sleep(PAUSE)


def _print(console: Console, person: Person) -> None:
    """For a pipe or a file: a snapshot whenever something changed."""
    last = ""
    while True:
        last = _print_change(console, person, last)
        time.sleep(PAUSE)


def _print_change(console: Console, person: Person, last: str) -> str:
    """What stands now, printed unless it is `last`."""
    with console.capture() as capture:
        console.print(_glance(person))
    if (text := capture.get()) != last:
        console.file.write(text)
        console.file.flush()
    return text


def _usual(settings: Settings) -> dict[str, float]:
    return {feature.name: feature.default for feature in vocabulary.load(settings.feature_repo).features}


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
    """What matters most stands first: a terminal that is too low cuts off the end."""
    head = Text(f"{person.user}, as of {person.at}", style="bold")
    return Group(head, *_scores(person, now), _signals(person, now), _features(person, now))


def _scores(person: Person, now: float) -> Iterator[RenderableType]:
    for score in person.scores:
        sure = score["score"] >= score["threshold"]
        style = "bold red" if sure else person.style(f"score {score['model']}", now)
        mark = "at least" if sure else "below"
        line = f"{score['model']} {score['score']:.3f} ({mark} {score['threshold']:.3f})"
        yield Text(line, style, overflow="ellipsis", no_wrap=True)
        raising = [reason["says"] for reason in score["reasons"] if reason["contribution"] > 0]
        if raising:
            yield Padding("; ".join(raising[:REASONS]), (0, 0, 0, 2))


def _signals(person: Person, now: float) -> RenderableType:
    """Strength and confidence, strongest first; those of strength 0 are not worth a line."""
    heard = sorted((s for s in person.signals if s["strength"]), key=lambda s: -s["strength"])
    lines = [
        Text(
            f"{s['name']} {s['strength']:.2f} ({s['confidence']:.2f})",
            person.style(f"signal {s['name']}", now),
            no_wrap=True,
        )
        for s in heard
    ]
    return _columns("signals: strength (confidence)", lines)


def _features(person: Person, now: float) -> RenderableType:
    lines = [_feature(name, person.features[name], person.style(name, now)) for name in person.telling()]
    return _columns(f"features that say something: {len(lines)} of {len(person.features)}", lines)


def _feature(name: str, told: dict[str, Any], style: str) -> Text:
    return Text(f"{name} {_number(told['value'])}", style, no_wrap=True)


def _columns(title: str, lines: list[Text]) -> RenderableType:
    """As many columns as fit."""
    return Group(Text(title, "dim"), Columns(lines, padding=(0, 2), column_first=True))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.3f}".rstrip("0").rstrip(".")
