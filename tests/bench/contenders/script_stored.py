"""The script of one afternoon (script.py), which also puts the 24 features of whom it scores into Redis, by redis-py.

`python script_stored.py LINES MODEL SOCKET`: a pipeline of HSETs every 1,000 lines, answered before it goes on. What it
counts from is still in its memory alone, and a crash loses it; so do events that it had not come to.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import redis
from model import Scorer, tell  # type: ignore[import-not-found]  # beside it, when it runs
from script import EVERY, TYPES, Person  # type: ignore[import-not-found]

NAMES = [f"{name}_{span}" for span in ("1h", "24h") for name in TYPES]


def main(lines: Path, model: Path, socket: str) -> None:
    scorer, people, touched, n = Scorer(model), dict[str, Person](), set[str](), 0
    pipe = redis.Redis(unix_socket_path=socket).pipeline(transaction=False)

    def done() -> None:
        scorer.scores(np.array([people[user].counts for user in touched], np.float32))
        for user in touched:
            pipe.hset(f"features:{user}", mapping=dict(zip(NAMES, people[user].counts, strict=True)))
        pipe.execute()
        touched.clear()

    began = time.perf_counter()
    with lines.open() as file:
        for n, line in enumerate(file, 1):
            event = json.loads(line)
            user = event["user"]
            person = people.get(user)
            if person is None:
                person = people[user] = Person()
            person.add(TYPES[event["event"]], event["ts"])
            touched.add(user)
            if n % EVERY == 0:
                done()
    done()
    tell(n, time.perf_counter() - began, scorer)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
