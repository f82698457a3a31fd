"""Posts a simulated world through the public HTTP door: months of history first, then as its clock runs.

`python -m training.live --url http://127.0.0.1:8400 --key KEY`. It prints a JSON line with the simulated clock and
the number of calls sent about twice a second, and goes on where it stopped: messageIds are the same in every run,
so what was sent but not noted counts once.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

import msgspec
import numpy as np

from feature_repo import settings
from training.feed import Feed
from training.simulate import DAY, Era, simulate
from training.world import CONTACTS

ERA_DAYS = 365
BATCH = 500
EVENING = 17 * 3_600_000  # the clock starts when people are at home, not at midnight
STEP = 0.05  # seconds between looks at the clock
LEAP = 0.5  # seconds that the clock may make up at once after a delay


class Refused(RuntimeError):
    """The door does not take what we send."""


class Stop(BaseException):
    """SIGINT or SIGTERM."""


class Progress(msgspec.Struct):
    """Where the simulation stands; kept beside the data, so that the next run goes on."""

    seed: int
    people: int
    days: int
    start: int  # ms since 1970
    clock: int  # ms since 1970
    era: int = 0  # years simulated before this one
    sent: int = 0  # calls of this era
    earlier: int = 0  # calls of the eras before

    @property
    def history_end(self) -> int:
        return self.start + self.days * DAY + EVENING


class Door:
    """One kept-alive connection to /v1/batch."""

    def __init__(self, url: str, key: str) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._connection = http.client.HTTPConnection(*self._address, timeout=30)
        token = base64.b64encode(f"{key}:".encode()).decode()
        self._headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}

    def post(self, calls: list[bytes], *, history: bool) -> None:
        """Until it is stored. Raises Refused on an answer that waiting does not mend."""
        body = b'{"batch":[' + b",".join(calls) + b"]}"
        headers = self._headers | ({"X-Telltale-History": "1"} if history else {})
        while (wait := self._try(body, headers)) is not None:
            time.sleep(wait)

    def _try(self, body: bytes, headers: dict[str, str]) -> float | None:
        """None when stored, else how many seconds to wait."""
        try:
            self._connection.request("POST", "/v1/batch", body, headers)
            response = self._connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return 0.5
        if response.status in (429, 503):
            return float(response.headers.get("Retry-After", 1))
        if response.status != 200:
            raise Refused(
                f"POST /v1/batch: expected 200, got {response.status}: {answer[:500].decode(errors='replace')}"
            )
        return None


class Run:
    """One run of a simulation against a door."""

    def __init__(self, door: Door, progress: Progress, file: Path) -> None:
        self.door = door
        self.progress = progress
        self._file = file
        self._told = 0.0
        self._feed = self._era()

    def history(self) -> None:
        """All that lies before the clock starts, as fast as the door takes it."""
        if self.progress.clock < self.progress.history_end:
            self._send_until(self.progress.history_end, history=True)
        self._say()

    def live(self, speed: float, until: float) -> None:
        """As the clock runs, `speed` simulated seconds a second, until a moment (ms since 1970)."""
        last = time.monotonic()
        while self.progress.clock < until:
            time.sleep(STEP)
            now = time.monotonic()
            clock = self.progress.clock + int(min(now - last, LEAP) * speed * 1000)
            last = now
            self._send_until(int(min(clock, until)), history=False)

    def _send_until(self, moment: int, *, history: bool) -> None:
        while True:
            high = int(np.searchsorted(self._feed.ts, moment))
            for low in range(self.progress.sent, high, BATCH):
                self._batch(low, min(low + BATCH, high), history=history)
            if moment < self._end():
                break
            self._next_era()
        self.progress.clock = moment
        self._note()

    def _batch(self, low: int, high: int, *, history: bool) -> None:
        self.door.post(self._feed.calls(low, high), history=history)
        self.progress.sent = high
        self.progress.clock = int(self._feed.ts[high - 1])
        self._note()

    def _end(self) -> int:
        return self.progress.start + (self.progress.era + 1) * ERA_DAYS * DAY

    def _next_era(self) -> None:
        self.progress.earlier += self.progress.sent
        self.progress.era, self.progress.sent = self.progress.era + 1, 0
        self._feed = self._era()

    def _era(self) -> Feed:
        p = self.progress
        start = p.start + p.era * ERA_DAYS * DAY
        return Feed(
            simulate(p.people, ERA_DAYS, p.seed, CONTACTS, Era(start, p.era)), f"sim-{p.seed}-{p.start}-{p.era}"
        )

    def _note(self) -> None:
        save(self._file, self.progress)
        if time.monotonic() - self._told > 0.5:
            self._say()

    def _say(self) -> None:
        self._told = time.monotonic()
        clock = np.datetime64(self.progress.clock, "ms")
        print(f'{{"clock":"{clock}Z","sent":{self.progress.earlier + self.progress.sent}}}', flush=True)


def save(file: Path, progress: Progress) -> None:
    scratch = file.with_suffix(".new")
    scratch.write_bytes(msgspec.json.encode(progress))
    scratch.replace(file)


def resume(file: Path, people: int, days: int, seed: int, now: float) -> Progress:
    """Where the last run stopped; without one, a new simulation whose history ends today."""
    if file.exists():
        return msgspec.json.decode(file.read_bytes(), type=Progress)
    start = (int(now * 1000) // DAY - days) * DAY
    return Progress(seed=seed, people=people, days=days, start=start, clock=start)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.live", description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:8400")
    parser.add_argument("--key", required=True, help="write key")
    parser.add_argument("--people", type=int, default=1200)
    parser.add_argument("--days", type=int, default=95, help="of history before the clock starts")
    parser.add_argument("--speed", type=float, default=14_400.0, help="simulated seconds a second")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--until", type=float, default=float("inf"), help="simulated days since the start, then end")
    return parser


def main() -> int:
    given = arguments().parse_args()
    signal.signal(signal.SIGINT, _stop)
    signal.signal(signal.SIGTERM, _stop)
    home = settings.load().home
    home.mkdir(parents=True, exist_ok=True)
    file = home / "simulation.json"
    progress = resume(file, given.people, given.days, given.seed, time.time())
    try:
        run = Run(Door(given.url, given.key), progress, file)
        run.history()
        run.live(given.speed, progress.start + given.until * DAY)
    except Stop:
        return 0
    except Refused as refused:
        print(f"telltale: {refused}", file=sys.stderr)
        return 1
    return 0


def _stop(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)
    raise Stop


if __name__ == "__main__":
    sys.exit(main())
