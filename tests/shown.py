"""Every command that a README shows, and how it is run by a test: as it stands where it can, else in a small form.

`test_shown.py` fails for a command that stands in no list here. To add one: a line in `LIVE`, `STOPPED` or `MAKE`;
a fenced block needs a line in `BLOCKS`, and is run as the README has it.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from serving.command import parser

ROOT = Path(__file__).parents[1]
PAGES = (
    "README.md",
    *(f"{room}/README.md" for room in ("feature_repo", "flows", "onnx_models", "serving", "training")),
)
FENCED = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)
SPAN = re.compile(r"`([^`\n]+)`")
PLACEHOLDER = re.compile(r"[A-Z_]+(\.[a-z]+)?(\.\.\.)?|\.\.\.|\d+")


class Run(msgspec.Struct, frozen=True):
    """A command line of the shell, with what it must print, as a pattern, and its exit codes."""

    line: str
    says: str = ""
    codes: tuple[int, ...] = (0,)


# Each in this order, in a directory with labels.csv and history.jsonl, beside a `telltale run` that has shown an alert.
LIVE = (
    Run("telltale keys", r"^tt_\S+  main$"),
    Run('telltale user "$PERSON"', r"doc_access_count_30d"),
    Run('timeout --preserve-status -s INT 2 telltale user "$PERSON" --follow', codes=(0, 130)),
    Run("telltale keys make acme", r"^tt_"),
    Run("telltale keys make ops --admin", r"^tt_"),
    Run("telltale simulate --people 20 --days 5 --until 1 --speed 1000000 --seed 3", '"clock"'),
    Run("telltale replay history.jsonl --history --speed 1000000000"),
    Run("telltale init shop"),
    Run("telltale doctor", "all is well"),
    Run("telltale doctor --accept-loss", "nothing is lost"),
    Run("telltale features check", "no error"),
    Run("telltale features report --json --sample 50 --out earlier.json", r"earlier\.json"),
    Run("telltale features report --sample 50 --reference earlier.json", r"features\.html"),
    Run("telltale features address"),
    Run("timeout --preserve-status 2 telltale features serve --port $SPARE", codes=(0, 143)),
    Run("telltale delivery list", "DONE"),
    Run("telltale delivery list --json --state DONE --limit 1", '"DONE"'),
    Run("telltale delivery dead --json"),
    Run("telltale delivery retry $DELIVERY", "0 to be sent again", codes=(2,)),  # it was done
    Run("telltale delivery retry --all"),
    Run("telltale learning status --json"),
    Run("telltale learning report", r"learning\.html"),
    Run("telltale learning report --json"),
    Run("telltale models list --json", "likely_to_sell"),
    Run("telltale models show likely_to_sell --json", '"threshold"'),
    Run("telltale models promote refinance_opportunity $OLDER --why trying --instead $NEWEST"),
    Run("telltale models rollback refinance_opportunity --why trying --instead $OLDER"),
    Run("telltale models verify refinance_opportunity", "ok"),
    Run("telltale consistency --sample 20 --json", '"differ":0'),
    Run("telltale backfill --load", "people lacked"),
    Run("telltale backfill --labels labels.csv --out all.parquet --history history.jsonl --feast"),
    Run(
        "telltale backfill --labels labels.csv --out standing.parquet --organisation main "
        "--from-rows .telltale/training_sets/user_features"
    ),
    Run("telltale train likely_to_sell --labels labels.csv --history history.jsonl --promote --trials 1", codes=(0, 2)),
    Run("telltale bench serving --runs 1 --seconds 0.1 --json", '"bench":"serving"'),
    Run("telltale backup backup.tar", r"backup\.tar: \d+ files"),
)
# After that one was ended by Ctrl-C.
STOPPED = (
    Run("TELLTALE_HOME=copy telltale restore backup.tar", "copy is as it was on"),
    Run('mv "$TELLTALE_HOME/store" lost && telltale rebuild'),
    Run("telltale faults 'kill -9: lake' --minutes 0.1 --seed 2", "all held"),
)
# In a checkout so small that each takes seconds.
MAKE = (
    Run("make help", "(?m)^run "),
    Run("make format"),
    Run("make check"),
    Run("make test", "1 passed"),
    Run("make faults NAME='kill -9: api' MINUTES=0.1", "all held"),
    Run("make clean && ! [ -e .venv ]"),
)
# Fenced blocks, by the first words of a line that only they have, and by which test they are run.
BLOCKS = {
    ("README.md", "make run"): "`make test` by test_shown_make.py, `make run` by .ci/fresh",
    ("README.md", "telltale user ada"): "test_docs.py",
    ("README.md", "telltale init shop"): "test_tutorial.py",
    ("feature_repo/README.md", "feast apply"): "contracts/test_feast_apply.py",
    ("flows/README.md", "ann=$(curl"): "test_shown_live.py",
    ("flows/README.md", "TELLTALE_REDIS_URL="): "serving/test_up_engines.py, over a store of its own",
    ("serving/README.md", 'curl -s -u "$KEY:" http://127.0.0.1:8400/v1/score/'): "test_shown_live.py",
    ("serving/README.md", 'curl -s -u "$KEY:" -X PATCH'): "test_shown_live.py",
    ("training/README.md", "telltale backfill"): "test_shown_live.py",
    ("training/README.md", "telltale train"): "test_shown_live.py, a line at a time, simulated people few",
}
SMALL = ("--simulated ", "--simulated --people 300 --judged 100 --trials 1 ")  # how blocks that train are run
# What no test of `make test` runs, and who does.
ELSEWHERE = {
    "make run": ".ci/fresh, on a fresh machine, until its first alert",
    "make install": "test_make.py: what it refuses, and that it does nothing twice; .ci/fresh: the whole",
    "make bench": "all benchmarks take ten minutes and more; one of them is run here",
    "telltale bench all": "the same",
    "telltale bench --quick": "the same",
    "telltale run": "test_shown_live.py: the Telltale beside which the commands are run",
    "telltale up": "test_docs.py",
}


def read(page: str) -> str:
    return (ROOT / page).read_text()


def blocks(page: str) -> list[str]:
    """The text of each fenced block of shell lines."""
    return FENCED.findall(read(page))


def block(page: str, begins: str) -> str:
    """The one that has such a line."""
    (found,) = [text for text in blocks(page) if any(line.startswith(begins) for line in text.splitlines())]
    return found


def shown() -> Iterator[tuple[str, str]]:
    """(page, command) of all that stands in code spans; in a row of a table also by its options and parts alone."""
    for page in PAGES:
        for line in FENCED.sub("", read(page)).splitlines():
            spans = SPAN.findall(line)
            yield from ((page, span) for span in spans if re.match(r"(\w+=\S+ )?(telltale|make) [a-z]", span))
            if line.startswith("| `telltale "):
                yield from ((page, whole) for whole in _parts(spans))


def _parts(spans: list[str]) -> Iterator[str]:
    """What a row says of its command: options, and what may follow it."""
    name = spans[0].split()[1]
    follow = _follow(name)
    for span in spans[1:]:
        if span.startswith("--") or span.split()[0] in follow:
            yield f"telltale {name} {span}"


def _follow(name: str) -> set[str]:
    """The commands of a command."""
    of = _choices(parser())[name]
    return set(_choices(of))


def _choices(of: argparse.ArgumentParser) -> dict[str, Any]:
    found: list[Any] = [action for action in of._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(found[0].choices) if found else {}


def ran() -> list[list[str]]:
    """The words of all commands that are run."""
    lines = [run.line for run in (*LIVE, *STOPPED, *MAKE)]
    lines += [line for page in PAGES for text in blocks(page) for line in text.replace(*SMALL).splitlines()]
    return [re.findall(r"(?:telltale|make) .*", line)[0].split() for line in lines if re.search("telltale|make ", line)]


def is_run(command: str) -> bool:
    """Whether one of them has the same words in front, whatever stands for a placeholder, and all its options."""
    if command in ELSEWHERE:
        return True
    words = re.sub(r"^\w+=\S+ ", "", command).split()
    named = [word for word in words if not word.startswith("-") and not PLACEHOLDER.fullmatch(word)]
    if named[1] in {"train", "bench"}:
        named = named[:2]  # one model or benchmark stands for all
    options = {word for word in words if word.startswith("-")}
    return any(_in_order(named, line) and options <= set(line) for line in ran())


def _in_order(words: list[str], line: list[str]) -> bool:
    rest = iter(line)
    return all(word in rest for word in words)
