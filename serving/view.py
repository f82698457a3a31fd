"""What `make run` shows: the simulated clock, rate and lag, and each alert with its reasons as it fires."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
from rich.console import Console, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from feature_repo.moments import instant
from serving.client import Closed, Door, Turned
from serving.metrics_read import Meters, read_meters

PAUSE = 0.5  # seconds between looks
PLAIN_PAUSE = 5.0  # seconds between lines where nobody looks live
COLOURS = {"CRITICAL": "bold white on red", "HIGH": "bold red", "MEDIUM": "yellow", "LOW": "cyan"}


class Seen(msgspec.Struct):
    """What the screen knows at the moment."""

    clock: str = ""
    sent: int = 0
    alerts: int = 0
    first_alert: float = 0.0  # seconds after the start
    meters: Meters | None = None
    accepted_rate: float = 0.0  # events a second
    worked_rate: float = 0.0

    def measure(self, meters: Meters, passed: float) -> None:
        """Takes a reading, `passed` seconds after the one before."""
        if self.meters is not None:
            self.accepted_rate = max(meters.accepted - self.meters.accepted, 0) / passed
            self.worked_rate = max(meters.worked - self.meters.worked, 0) / passed
        self.meters = meters

    def lag(self) -> str:
        """Events that wait, and how long they will at the present pace."""
        if self.meters is None:
            return "..."
        if not self.meters.lag:
            return "none"
        wait = f", {self.meters.lag / self.worked_rate:.1f} s" if self.worked_rate else ""
        return f"{self.meters.lag:,} events{wait}"


class Screen:
    """`begun`: monotonic seconds at which the processes were started."""

    def __init__(self, begun: float, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self.seen = Seen()
        self._begun = begun
        self._lock = threading.Lock()

    def say(self, line: str) -> None:
        """A line that stays, above what moves."""
        self._print(Text(line))

    def clock(self, line: str) -> None:
        """Takes what the simulator prints: {"clock": ISO 8601, "sent": calls}; other lines are shown as they are."""
        try:
            told = json.loads(line)
            self.seen.clock, self.seen.sent = str(told["clock"]), int(told["sent"])
        except (ValueError, KeyError, TypeError):
            self.say(line.rstrip())

    def show(self, door: Door, ending: threading.Event) -> None:
        """Until `ending` is set."""
        threading.Thread(target=self._follow_alerts, args=(door.again(60.0), ending), daemon=True).start()
        if self.console.is_terminal:
            with Live(console=self.console, refresh_per_second=4, get_renderable=self.panel):
                self._look_until(door, ending, lambda: None)
        else:
            self._look_until(door, ending, self._plain())

    def panel(self) -> RenderableType:
        grid = Table.grid(padding=(0, 3))
        words = status(self.seen)
        for _ in words:
            grid.add_column()
        grid.add_row(*(Text(name, style="dim") for name in words))
        grid.add_row(*(Text(value, style="bold") for value in words.values()))
        return Panel(grid, title="Telltale", title_align="left", subtitle="Ctrl-C stops, nothing is lost", expand=False)

    def alert(self, alert: dict[str, Any]) -> None:
        """Shows one alert and why it fired."""
        with self._lock:
            self.seen.alerts += 1
            first = self.seen.alerts == 1
            if first:
                self.seen.first_alert = time.monotonic() - self._begun
            self._print(alert_text(alert))
        if first:
            self.say(f"(the first alert, {self.seen.first_alert:.1f} s after the start)")

    def _print(self, text: Text) -> None:
        self.console.print(text, soft_wrap=not self.console.is_terminal)

    def _look_until(self, door: Door, ending: threading.Event, each_time: Callable[[], None]) -> None:
        before = time.monotonic()
        while not ending.wait(PAUSE):
            with suppress(Closed, Turned):
                meters = read_meters(door.text("/metrics"))
                now = time.monotonic()
                self.seen.measure(meters, now - before)
                before = now
            each_time()

    def _plain(self) -> Callable[[], None]:
        due = time.monotonic()

        def each_time() -> None:
            nonlocal due
            if time.monotonic() >= due:
                due = time.monotonic() + PLAIN_PAUSE
                self.say("  ".join(f"{name} {value}" for name, value in status(self.seen).items()))

        return each_time

    def _follow_alerts(self, door: Door, ending: threading.Event) -> None:
        last = ""
        while not ending.wait(PAUSE):
            try:
                for mark, alert in door.events("/v1/alerts/stream", last):
                    last = mark
                    self.alert(alert)
            except (Closed, Turned):
                continue


def status(seen: Seen) -> dict[str, str]:
    """What the panel says, by name."""
    return {
        "simulated clock": seen.clock[:16].replace("T", " ") or "...",
        "events/s": f"{seen.accepted_rate:,.0f}",
        "events": f"{seen.meters.accepted:,}" if seen.meters else "...",
        "lag": seen.lag(),
        "alerts": f"{seen.alerts:,}",
    }


def alert_text(alert: dict[str, Any]) -> Text:
    """One line for who and what, one for each reason."""
    moment = f"{instant(alert['scored_at']):%Y-%m-%d %H:%M}"
    text = Text(f"{moment}  ")
    text.append(f"{alert['priority']:8}", style=COLOURS.get(alert["priority"], ""))
    text.append(f" {alert['type']:20} ", style="bold")
    text.append(f"{alert['user']}  score {alert['score']:.2f}  confidence {alert['confidence']:.0%}")
    for reason in alert["reasons"]:
        text.append(f"\n                    {reason}", style="dim")
    return text
