"""`telltale doctor`: what is missing or wrong, in plain words. It changes nothing, unless a loss is to be accepted."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import closing

import msgspec
import redis

from feature_repo import keys, vocabulary
from feature_repo.settings import Settings
from flows import losses, store
from flows.embedded import program
from flows.losses import WentBack
from flows.partition import LogBehind, check_log
from serving import write_keys
from serving.client import Closed, Door, Turned
from serving.complaint import Complaint
from serving.port import claim_port

RESTORE = (
    "restore its newer append-only files; or stop Telltale, move the store away (of your own Redis: FLUSHDB) and "
    "`telltale rebuild`"
)
ANOTHER = "is taken by another Telltale, not of this home or store: set TELLTALE_PORT to another port"
UNKNOWN_KEY = 401
ROOM = 1_000_000_000  # bytes of disk below which we speak up


class Finding(msgspec.Struct, frozen=True):
    """`well`: nothing to do."""

    what: str
    well: bool
    says: str


def examine(settings: Settings) -> int:
    """Prints what was found; 1 when anything is wrong, else 0."""
    found = [finding for check in CHECKS for finding in check(settings)]
    for finding in found:
        print(f"{'ok   ' if finding.well else 'WRONG'}  {finding.what:9} {finding.says}")
    wrong = sum(not finding.well for finding in found)
    print(f"{wrong} to mend" if wrong else "all is well")
    return 1 if wrong else 0


def accept_losses(settings: Settings) -> int:
    """Goes on without the events that are lost: they stay counted as such. Raises StoreError."""
    with closing(store.connect(settings)) as client:
        for line in losses.accepted(client, settings) or ["nothing is lost"]:
            print(line)
    return 0


def python(settings: Settings) -> Iterator[Finding]:
    version = sys.version.split()[0]
    fine = sys.version_info[:2] in {(3, 11), (3, 12)}
    yield Finding("python", fine, version if fine else f"{version}: expected 3.11 or 3.12")


def packages(settings: Settings) -> Iterator[Finding]:
    try:
        needed = [line for line in importlib.metadata.requires("telltale") or [] if "extra ==" not in line]
    except importlib.metadata.PackageNotFoundError:
        yield Finding("packages", False, "telltale is not installed in this environment: run `make install`")
        return
    names = [re.split(r"[^\w.-]", line)[0] for line in needed]
    missing = [name for name in names if not _installed(name)]
    says = f"missing: {', '.join(missing)}; run `make install`" if missing else f"all {len(names)} are installed"
    yield Finding("packages", not missing, says)


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def home(settings: Settings) -> Iterator[Finding]:
    place = next(path for path in (settings.home, *settings.home.parents) if path.exists())
    free = shutil.disk_usage(place).free
    yield Finding("disk", free > ROOM, f"{free / 1e9:.1f} GB free at {place}; expected at least {ROOM / 1e9:.0f} GB")


def reachable(settings: Settings) -> Iterator[Finding]:
    """The store: to be had, durable, created, with a key, and its log whole."""
    try:
        where = f"Redis at {store.address(settings)}" if settings.redis_url else f"embedded, {program()}"
        yield Finding("store", True, where)
        client = store.connect(settings)
    except store.StoreError as error:
        yield Finding("store", not settings.redis_url and "no store runs" in str(error), str(error))
        return
    warnings = store.durability(client)
    yield from (Finding("durable", False, warning) for warning in warnings)
    if not warnings:
        yield Finding("durable", True, "what is acknowledged is on disk")
    yield from _inside(client, settings)


def _inside(client: redis.Redis, settings: Settings) -> Iterator[Finding]:
    try:
        created = losses.opened(client, settings)
    except WentBack as error:
        yield Finding("whole", False, f"{error}; {RESTORE}")
        return
    except store.StoreError as error:
        yield Finding("created", False, str(error))
        return
    yield Finding("created", True, f"{created.partitions} partitions, {created.clock} clock")
    count = len(write_keys.listed(client))
    yield Finding("keys", count > 0, f"{count} write keys" if count else "no write key: `telltale keys make NAME`")
    yield from _log(client, created.partitions)
    lost = losses.problems(client, settings, created)
    yield from (Finding("whole", False, line) for line in lost)
    if not lost:
        yield Finding("whole", True, "nothing that was accepted is missing")
    dead = client.xlen(keys.DEAD)
    if dead:
        yield Finding("dead", False, f"{dead} entries could not be worked and stand with their reasons in {keys.DEAD}")


def _log(client: redis.Redis, partitions: int) -> Iterator[Finding]:
    whole = True
    for partition in range(partitions):
        try:
            check_log(client, partition, client.get(keys.position(partition)) or b"0-0")
        except LogBehind as error:
            whole = False
            yield Finding("log", False, f"{error}; {RESTORE}")
    if whole:
        yield Finding("log", True, "every partition's log goes as far as its state")


def port(settings: Settings) -> Iterator[Finding]:
    """Free, or ours and ready."""
    try:
        claim_port(settings)
        yield Finding("port", True, f"{settings.port} is free")
    except Complaint as taken:
        yield from _who_answers(settings, taken)


def _who_answers(settings: Settings, taken: Complaint) -> Iterator[Finding]:
    key = _key(settings)
    with closing(Door(settings, key or "", timeout=3.0)) as door:
        try:
            telltale = "status" in door.text("/healthz")
        except (Closed, Turned):
            telltale = False
        if not telltale:
            yield Finding("port", False, str(taken))
        elif key is None:
            yield Finding("port", False, f"{settings.port} {ANOTHER}")
        else:
            yield from _readiness(settings, door)


def _key(settings: Settings) -> str | None:
    """A write key, empty where the store has none; None without a store."""
    try:
        return next(iter(write_keys.listed(store.connect(settings))), "")
    except store.StoreError:
        return None


def _readiness(settings: Settings, door: Door) -> Iterator[Finding]:
    """What the API says of itself, which knows our keys if it is ours."""
    try:
        door.json("/readyz")
        yield Finding("port", True, f"{settings.port}: our API answers")
        yield Finding("ready", True, "events become features")
    except Turned as error:
        if error.status == UNKNOWN_KEY and door.key:
            yield Finding("port", False, f"{settings.port} {ANOTHER}")
            return
        yield Finding("port", True, f"{settings.port}: an API answers")
        yield from (Finding("ready", False, problem) for problem in error.problem.get("problems") or [str(error)])
    except Closed as error:
        yield Finding("ready", False, str(error))


def models(settings: Settings) -> Iterator[Finding]:
    """Every model that can raise an alert has a version that verifies."""
    from onnx_models.library import Library
    from onnx_models.registry import ModelError

    try:
        services = vocabulary.load(settings.feature_repo).services
    except vocabulary.VocabularyError as error:
        yield Finding("domain", False, str(error))
        return
    for service in services:
        if service.alert is None:
            continue
        try:
            model = Library.of(settings).deployed(service.name, service.features)
        except ModelError as error:
            yield Finding("model", False, str(error))
        else:
            passed = "".join(f"; passed over: {line}" for line in model.refused)
            yield Finding("model", not passed, f"{service.name} {model.metadata.version} verified{passed}")


CHECKS: tuple[Callable[[Settings], Iterator[Finding]], ...] = (python, packages, home, reachable, port, models)
