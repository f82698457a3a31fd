"""The fault laboratory: `python -m tests.faults [--minutes M] [--seed N] [--out faults.json] [NAME ...]`.

Each fault is made under load, again and again for its share of the time, and then judged: what was acknowledged must be
there once, nothing else, and every alert delivered. One seed drives load and faults. NAME: part of a fault's name.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.faults.laboratory import Laboratory
from tests.faults.report import show


def main() -> int:
    parser = argparse.ArgumentParser(prog="telltale faults", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only faults with this in their names")
    parser.add_argument(
        "--minutes", type=float, default=60.0, help="how long all take (60); below 15 only one of each kind"
    )
    parser.add_argument("--seed", type=int, default=1, help="of load and faults (default: 1)")
    parser.add_argument("--out", type=Path, default=Path("faults.json"), help="where the report goes")
    parser.add_argument("--keep", action="store_true", help="keep the directories of faults that did not hold")
    given = parser.parse_args()
    rows = Laboratory(given.seed, given.minutes * 60, given.out, keep=given.keep).run(given.names)
    show(rows)
    return int(not rows or any(not row.holds for row in rows))


if __name__ == "__main__":
    sys.exit(main())
