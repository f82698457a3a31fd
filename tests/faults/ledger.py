"""What clients know: which of their events were acknowledged, which refused, and of which they were told nothing."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from contextlib import suppress

import msgspec

from serving.client import Closed, Door, Turned
from serving.messages import BatchStored
from tests.faults.calls import Call, Calls

BATCH = 8
AGAIN = 0.75  # how often a client asks again after it was told nothing; otherwise it leaves it at that
REMEMBERED = 500  # acknowledged calls that may be sent again
RETRY_S = 0.05
GIVE_UP_S = 120.0


class Ledger:
    """By message id; for several threads at once."""

    def __init__(self) -> None:
        self.acknowledged: set[str] = set()
        self.undetermined: set[str] = set()
        self.refused: set[str] = set()
        self._recent: deque[Call] = deque(maxlen=REMEMBERED)
        self._lock = threading.Lock()

    def bad(self, message: str) -> None:
        """A call of that id must be refused, and never be stored."""
        with self._lock:
            self.refused.add(message)

    def attempt(self, calls: list[Call]) -> None:
        """They are on their way: from now on they may be stored."""
        with self._lock:
            self.undetermined |= {call["messageId"] for call in calls} - self.acknowledged - self.refused

    def answered(self, calls: list[Call], answer: BatchStored) -> None:
        """AssertionError where others were refused than those that had to be."""
        rejected = {calls[item.index]["messageId"] for item in answer.rejected}
        with self._lock:
            bad = {call["messageId"] for call in calls} & self.refused
            assert rejected == bad, f"expected that {sorted(bad)} are refused, got {answer.rejected}"
            stored = [call for call in calls if call["messageId"] not in bad]
            self.undetermined -= {call["messageId"] for call in stored}
            self.acknowledged |= {call["messageId"] for call in stored}
            self._recent.extend(stored)

    def again(self, dice: random.Random, n: int) -> list[Call]:
        """Some that were acknowledged."""
        with self._lock:
            return dice.sample(list(self._recent), min(n, len(self._recent)))

    def __len__(self) -> int:
        with self._lock:
            return len(self.acknowledged)


class Client:
    """Sends batches as an app's library does: again and again while it is told nothing, or not at all any more."""

    def __init__(self, door: Door, ledger: Ledger, dice: random.Random) -> None:
        self.door, self.ledger, self.dice = door, ledger, dice

    def once(self, calls: list[Call]) -> bool:
        """Whether it was acknowledged."""
        self.ledger.attempt(calls)
        try:
            answer = self.door.post("/v1/batch", msgspec.json.encode({"batch": calls}), {})
        except Closed:
            return False
        except Turned as turned:
            if turned.status != 503:
                raise
            return False
        self.ledger.answered(calls, msgspec.json.decode(answer, type=BatchStored))
        return True

    def send(self, calls: list[Call], *, until_told: bool = False) -> bool:
        """The same, again and again."""
        deadline = time.monotonic() + GIVE_UP_S
        while not self.once(calls):
            assert time.monotonic() < deadline, f"the door stayed away for {GIVE_UP_S:.0f} s"
            if not until_told and self.dice.random() > AGAIN:
                return False
            time.sleep(RETRY_S)
        return True


class Writer(threading.Thread):
    """Random batches until told to end: good calls, some that were sent before, now and then a bad one."""

    def __init__(self, client: Client, calls: Calls, name: str, ending: threading.Event, pause: float) -> None:
        super().__init__(daemon=True, name=name)
        self._client, self._calls, self._ending, self._pause = client, calls, ending, pause
        self._sent = 0
        self.failed: Exception | None = None

    def run(self) -> None:
        try:
            while not self._ending.is_set():
                self._client.send(self._batch())
                self._ending.wait(self._pause)
        except (AssertionError, Turned, msgspec.MsgspecError) as error:
            self.failed = error
        finally:
            with suppress(OSError):
                self._client.door.close()

    def _batch(self) -> list[Call]:
        dice = self._calls.dice
        made = [self._calls.made(self._id()) for _ in range(BATCH)]
        if dice.random() < 0.1:
            bad = self._calls.bad(self._id())
            self._client.ledger.bad(bad["messageId"])
            made.append(bad)
        if dice.random() < 0.3:
            made += self._client.ledger.again(dice, 2)
        dice.shuffle(made)
        return made

    def _id(self) -> str:
        self._sent += 1
        return f"{self.name}-{self._sent}"
