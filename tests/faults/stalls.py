"""Processes and databases that stand still for a while, a store without memory, clocks that jump, poison."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import time
from contextlib import closing

from flows.partition import LEASE_MS
from flows.store import connect
from serving.supervisor import environment
from tests.faults.kills import PROCESSES
from tests.faults.ledger import Client
from tests.faults.mortal import CRASHES, RAISES
from tests.faults.site import Site
from tests.faults.trouble import CLOCK_MS
from tests.running_up import TELLTALE

MINUTE_MS = 60_000


def stall(site: Site, dice: random.Random, name: str, seconds: float) -> float:
    """SIGSTOP, and SIGCONT some seconds later."""
    site.kill(PROCESSES[name], signal.SIGSTOP)
    time.sleep(seconds)
    site.kill(PROCESSES[name], signal.SIGCONT)
    return time.monotonic()


def moved(site: Site, dice: random.Random) -> float:
    """One of the engines stands still until its partitions are another's, and wakes."""
    pid = dice.choice(site.pids(PROCESSES["engine"]))
    os.kill(pid, signal.SIGSTOP)
    time.sleep(LEASE_MS / 1000 + 2 + dice.random())
    os.kill(pid, signal.SIGCONT)
    return time.monotonic()


def joins(site: Site, dice: random.Random) -> float:
    """One more engine, by the one line that adds it, on and off again; killed or stopped."""
    command, environ = [*TELLTALE, "engine"], environment(site.settings)
    with subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as more:
        time.sleep(4 + 2 * dice.random())
        assert more.poll() is None, f"`telltale engine` ended with {more.returncode}"
        more.send_signal(dice.choice([signal.SIGKILL, signal.SIGTERM]))
    return time.monotonic()


def out_of_memory(site: Site, dice: random.Random) -> float:
    """The store refuses to take anything more."""
    with closing(connect(site.settings)) as client:
        before = client.config_get("maxmemory")["maxmemory"]
        client.config_set("maxmemory", int(client.info("memory")["used_memory"]) - 1)
        time.sleep(1.5 + dice.random())
        client.config_set("maxmemory", before)
    return time.monotonic()


def restart_out_of_memory(site: Site, dice: random.Random) -> float:
    """The same, and the store is killed meanwhile."""
    with closing(connect(site.settings)) as client:
        client.config_set("maxmemory", int(client.info("memory")["used_memory"]) - 1)
    time.sleep(0.5 + dice.random())
    site.kill(PROCESSES["store"])
    return time.monotonic()


def database_locked(site: Site, dice: random.Random) -> float:
    """Somebody holds SQLite's only lock for longer than anybody waits for it."""
    path = site.settings.home / "telltale.db"
    with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        time.sleep(6 + dice.random())
        connection.execute("ROLLBACK")
    return time.monotonic()


def clock_jumps(site: Site, dice: random.Random) -> float:
    """Every process' clock is ahead or behind by up to 40 minutes for a while, then right again."""
    assert site.trouble is not None
    with site.trouble.on(CLOCK_MS, dice.choice([-40, -5, 5, 40]) * MINUTE_MS):
        time.sleep(2 + dice.random())
    return time.monotonic()


def poison(site: Site, dice: random.Random, kind: str) -> float:
    """An event over which the engine dies whenever it works it."""
    user = f"{kind}-{dice.getrandbits(40):x}"
    call = {"type": "track", "event": "Document Viewed", "userId": user, "messageId": user}
    call["timestamp"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    at = time.monotonic()
    with closing(site.door()) as door:
        Client(door, site.ledger, dice).send([call], until_told=True)
    return at


def raises(site: Site, dice: random.Random) -> float:
    return poison(site, dice, RAISES)


def crashes(site: Site, dice: random.Random) -> float:
    return poison(site, dice, CRASHES)
