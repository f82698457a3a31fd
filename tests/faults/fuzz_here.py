"""`python -m tests.faults.fuzz_here HOME SECONDS SEED [TARGET...]`: fuzzes targets in turn, each in a fork of its own.

Forks, since atheris never comes back, and what is instrumented is imported once. A line of JSON a target tells its
runs; what it failed by stands in HOME/TARGET.log, the input in HOME/TARGET.input.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

atheris = import_module("atheris")  # none of our dependencies: it is fetched when it is needed

with atheris.instrument_imports(include=["serving", "flows", "feature_repo"]):
    from tests.faults.fuzz_targets import TARGETS, Take, Target

HANG = 1.0  # seconds of the processor's time for one input
STUCK = 20  # seconds after which an input is given up
_DONE = re.compile(r"^Done (\d+) runs in ", re.MULTILINE)  # what a process that forked says at its end is no failure
_RUNS = re.compile(r"stat::number_of_executed_units: (\d+)")


def timed(take: Take, culprit: Path) -> Take:
    """Raises AssertionError where an input takes too long. The input that fails is kept in `culprit`."""

    def take_(data: bytes) -> None:
        began, good = time.process_time(), False
        try:
            take(data)
            took = time.process_time() - began
            assert took < HANG, f"expected an answer within {HANG:g} s, it took {took:.2f}"
            good = True
        finally:
            if not good:
                culprit.write_bytes(data)

    return take_


def fuzz(name: str, home: Path, seconds: int, seed: int) -> None:
    """Never comes back."""
    log = os.open(home / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(log, stream)
    target: Target = TARGETS[name]()
    take = timed(target.take, home / f"{name}.input")
    corpus, words = home / "corpus" / name, home / f"{name}.dict"
    corpus.mkdir(parents=True)
    for i, good in enumerate(target.seeds):
        (corpus / f"seed{i}").write_bytes(good)
        take(good)
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in target.words))
    lexicon = [f"-dict={words}"] if target.words else []
    flags = {"max_total_time": seconds, "seed": seed, "max_len": target.most, "timeout": STUCK, "rss_limit_mb": 3000}
    told = [f"-{flag}={value}" for flag, value in flags.items()]
    atheris.Setup(
        [name, *told, "-print_final_stats=1", *lexicon, f"-artifact_prefix={home}/{name}.", str(corpus)],
        take,
    )
    atheris.Fuzz()


def _escaped(word: str) -> str:
    return "".join(chr(c) if 32 <= c < 127 and chr(c) not in '"\\' else f"\\x{c:02X}" for c in word.encode())


def told(name: str, home: Path, seconds: float) -> str:
    log = (home / f"{name}.log").read_text(errors="replace")
    done, runs = _DONE.search(log), _RUNS.search(log)
    failed = "" if done else log[-6000:]
    return json.dumps({"target": name, "runs": int(runs[1]) if runs else 0, "seconds": seconds, "failed": failed})


def main(home: str, seconds: str, seed: str, *names: str) -> int:
    chosen: Sequence[str] = names or list(TARGETS)
    each = max(1, int(float(seconds) / len(chosen)))
    for i, name in enumerate(chosen):
        began = time.monotonic()
        child = os.fork()
        if not child:
            try:
                fuzz(name, Path(home), each, int(seed) + i)
            finally:
                traceback.print_exc()
                os._exit(1)
        os.waitpid(child, 0)
        print(told(name, Path(home), time.monotonic() - began), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
