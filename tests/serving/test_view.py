"""The terminal view: what it says of rate, lag, clock and alerts."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from serving.metrics_read import Meters, read_meters
from serving.view import Screen, Seen, status

METRICS = """# TYPE telltale_events_accepted_total counter
telltale_events_accepted_total{partition="0"} 40
telltale_events_accepted_total{partition="1"} 60.0
telltale_events_accepted_total_of_another_kind 7
telltale_events_lag{partition="0"} 0
telltale_events_lag{partition="1"} 25
"""
ALERT: dict[str, Any] = {
    "user": "u1",
    "type": "LIKELY_TO_SELL",
    "priority": "HIGH",
    "score": 0.834,
    "confidence": 0.71,
    "scored_at": 1772366400000,
    "reasons": ["keeps checking what the home is worth", "documents opened: 14 events"],
}


def screen(*, terminal: bool) -> tuple[Screen, io.StringIO]:
    out = io.StringIO()
    return Screen(0.0, Console(file=out, force_terminal=terminal, width=120, color_system=None)), out


def test_metrics_are_summed_over_partitions() -> None:
    """Only the series of the very metric count."""
    assert read_meters(METRICS) == Meters(accepted=100, lag=25)
    assert read_meters("") == Meters()


def test_rate_and_lag_follow_from_two_readings() -> None:
    """100 more accepted and 50 more worked in 2 s: 50 events/s, and 75 that wait take 3 s at 25/s."""
    seen = Seen()
    assert seen.lag() == "..."
    seen.measure(Meters(100, 25), 1.0)
    assert seen.lag() == "25 events"
    seen.measure(Meters(200, 75), 2.0)
    assert status(seen)["events/s"] == "50"
    assert seen.lag() == "75 events, 3.0 s"
    seen.measure(Meters(200, 0), 1.0)
    assert seen.lag() == "none"


def test_the_clock_is_the_simulators() -> None:
    """Its JSON lines move the clock; whatever else it prints is shown."""
    view, out = screen(terminal=False)
    view.clock('{"clock": "2026-03-01T12:34:56.000Z", "sent": 9}\n')
    view.clock("the door is closed\n")
    assert status(view.seen)["simulated clock"] == "2026-03-01 12:34"
    assert out.getvalue() == "the door is closed\n"


def test_an_alert_is_shown_with_its_reasons() -> None:
    """Who, what, how sure, and why, each reason on a line of its own; the first one with its time."""
    view, out = screen(terminal=False)
    view.alert(ALERT)
    view.alert(ALERT)
    lines = [line.strip() for line in out.getvalue().splitlines()]
    assert lines[0] == "2026-03-01 12:00  HIGH     LIKELY_TO_SELL       u1  score 0.83  confidence 71%"
    assert lines[1:3] == ALERT["reasons"]
    assert "the first alert" in lines[3]
    assert lines[4:] == lines[:3]
    assert status(view.seen)["alerts"] == "2"


def test_a_terminal_gets_a_panel() -> None:
    """All five things that a demonstration shows are in it."""
    view, out = screen(terminal=True)
    view.console.print(view.panel())
    for name in ("simulated clock", "events/s", "lag", "alerts", "Ctrl-C"):
        assert name in out.getvalue()
