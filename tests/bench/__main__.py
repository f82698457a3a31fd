"""`python -m tests.bench NAME [--json]`: runs the benchmark in the module of that name.

To add one: a module here with `run(options) -> Result`, and its place in `whole.ORDER`.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import sys
import time
from pathlib import Path
from typing import cast

import msgspec
from rich.console import Console
from rich.table import Table

from tests.bench.options import Options
from tests.bench.result import Figure, Report, Result, report
from tests.bench.whole import QUICK, names, whole


def main() -> int:
    parser = argparse.ArgumentParser(prog="telltale bench", description=__doc__)
    parser.add_argument(
        "name", choices=[*names(), "all"], help="`all`: one after another, into bench.json and bench.html"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--runs", type=int, default=3, help="runs of which the median counts (default: 3)")
    parser.add_argument("--seconds", type=float, default=0.0, help="length of a run (default: the bench's own)")
    parser.add_argument("--quick", action="store_true", help="a short run; `all`: in some ten minutes")
    parser.add_argument("--out", type=Path, default=Path(), help="with `all`: where the files go (default: here)")
    given = parser.parse_args()
    if given.name == "all":
        return whole(given.out, quick=given.quick)
    if given.quick and given.name not in QUICK:
        parser.error(f"{given.name} has no short run")
    options = Options(runs=given.runs, seconds=given.seconds)
    if given.quick:
        options = Options(runs=1, seconds=QUICK[given.name])
    module = importlib.import_module(f"tests.bench.{given.name.replace('-', '_')}")
    began = time.perf_counter()
    result = cast(Result, module.run(options))
    seconds = time.perf_counter() - began
    told = report(given.name, inspect.getdoc(module) or "", result, seconds, quick=given.quick)
    if given.json:
        print(msgspec.json.encode(told).decode())
    else:
        show(told)
    return 0


def show(report: Report) -> None:
    console = Console()
    table = Table("figure", "median", "min", "max", "unit", title=f"{report.bench} at {report.commit or '?'}")
    for owner, figures in {"": report.figures, **report.peers}.items():
        for name, figure in figures.items():
            table.add_row(f"{owner} {name}".strip(), *_numbers(figure), figure.unit)
    console.print(table)
    for peer, why in report.skipped.items():
        console.print(f"without {peer}: {why}", markup=False)
    console.print(", ".join(f"{name}: {value}" for name, value in report.machine.items()))


def _numbers(figure: Figure) -> list[str]:
    return [f"{value:,.4g}" if value < 100 else f"{value:,.0f}" for value in (figure.median, figure.min, figure.max)]


if __name__ == "__main__":
    sys.exit(main())
