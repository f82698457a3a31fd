"""The laboratory's report on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from tests.faults.found import Row


def show(rows: Sequence[Row]) -> None:
    table = Table("fault", "runs", "events", "lost", "doubled", "phantom", "recovery p50", "p99", "")
    for row in rows:
        numbers = (row.runs, row.events, row.lost, row.doubled, row.phantom)
        style = "" if row.holds and not row.skipped else ("yellow" if row.holds else "red")
        recovery = (_seconds(row.recovery_p50_s), _seconds(row.recovery_p99_s))
        table.add_row(row.fault, *(f"{n:,}" for n in numbers), *recovery, _said(row), style=style)
    console = Console(width=None if Console().is_terminal else 180)
    console.print(table)
    broken = [row.fault for row in rows if not row.holds]
    seed = rows[0].seed if rows else 0
    console.print(f"seed {seed}: " + (f"did not hold: {', '.join(broken)}" if broken else "all held"))


def _said(row: Row) -> str:
    notes = ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in row.notes.items()
    )
    return row.broken or (f"skipped: {row.skipped}" if row.skipped else notes)


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} s"
