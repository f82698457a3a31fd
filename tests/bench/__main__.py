"""`python -m tests.bench NAME [--json]`: runs the benchmark in the module of that name.

To add one: a module here with `run(options) -> Result`.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import cast

import msgspec
from rich.console import Console
from rich.table import Table

from tests.bench.options import Options
from tests.bench.result import Figure, Report, Result, commit, machine
from tests.bench.whole import whole


def names() -> list[str]:
    """Modules here that say how they are run."""
    files = Path(__file__).parent.glob("*.py")
    return sorted(path.stem.replace("_", "-") for path in files if "\ndef run(" in path.read_text())


def main() -> int:
    parser = argparse.ArgumentParser(prog="telltale bench", description=__doc__)
    parser.add_argument(
        "name", choices=[*names(), "all"], help="`all`: one after another, into bench.json and bench.html"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--runs", type=int, default=3, help="runs of which the median counts (default: 3)")
    parser.add_argument("--seconds", type=float, default=0.0, help="length of a run (default: the bench's own)")
    parser.add_argument("--quick", action="store_true", help="with `all`: in some ten minutes")
    parser.add_argument("--out", type=Path, default=Path(), help="with `all`: where the files go (default: here)")
    given = parser.parse_args()
    if given.name == "all":
        return whole(given.out, quick=given.quick)
    module = importlib.import_module(f"tests.bench.{given.name.replace('-', '_')}")
    result = cast(Result, module.run(Options(runs=given.runs, seconds=given.seconds)))
    report = Report(given.name, result.figures, result.peers, machine(), commit())
    if given.json:
        print(msgspec.json.encode(report).decode())
    else:
        show(report)
    return 0


def show(report: Report) -> None:
    console = Console()
    table = Table("figure", "median", "min", "max", "unit", title=f"{report.bench} at {report.commit or '?'}")
    for owner, figures in {"": report.figures, **report.peers}.items():
        for name, figure in figures.items():
            table.add_row(f"{owner} {name}".strip(), *_numbers(figure), figure.unit)
    console.print(table)
    console.print(", ".join(f"{name}: {value}" for name, value in report.machine.items()))


def _numbers(figure: Figure) -> list[str]:
    return [f"{value:,.4g}" if value < 100 else f"{value:,.0f}" for value in (figure.median, figure.min, figure.max)]


if __name__ == "__main__":
    sys.exit(main())
