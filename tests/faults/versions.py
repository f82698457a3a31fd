"""Models of a running site: damaged and hostile versions among good ones, promotions and rollbacks that race."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import TypeAlias

import msgspec
import onnx

from onnx_models import card
from onnx_models.library import Library
from onnx_models.registry import Conflict
from serving.client import Closed, Turned
from tests.faults import gone
from tests.faults.calls import CHECK, Call
from tests.faults.found import Found, Lacking
from tests.faults.judge import verdict
from tests.faults.kills import PROCESSES
from tests.faults.ledger import Client
from tests.faults.site import CHECKS, SELL, Site
from tests.faults.test_swaps import CHANGER, whole
from tests.faults.trouble import Trouble, missing
from tests.flows.made_models import VERSION, logistic
from tests.onnx_models.mutants import GRAPHS, sealed

GOOD = (VERSION, *(f"2026020{day}000000" for day in (1, 2, 3)))  # all of one opinion, so that the oracle stays right
TREES = {name for name, graph in GRAPHS.items() if "_trees" in graph.__qualname__} | {"targets", "slow"}
AGREED_S = 1.0  # after which API and engine score with what the registry says
CONFLICT = 409
Damage: TypeAlias = Callable[[Path, random.Random], None]
Round: TypeAlias = Callable[[Site, Library, random.Random, int], None]


def damaged(budget: float, dice: random.Random, place: Path) -> Found:
    """A version that is none comes as the newest, and is promoted: refused by its name, and the good one scores on."""
    return _rounds(_damaged, budget, dice, place)


def swapped(budget: float, dice: random.Random, place: Path) -> Found:
    """Processes that promote and roll back at once, and are killed: one version everywhere a second later."""
    return _rounds(_swapped, budget, dice, place)


def _rounds(once: Round, budget: float, dice: random.Random, place: Path) -> Found:
    if lacks := missing():
        raise Lacking(lacks)
    for version in GOOD:
        where = place / ("models" if version == VERSION else "home/onnx_models")
        logistic(where, SELL, "value_check_count_30d", 1.0, CHECKS - 1.0, 0.7, version=version)
    site, found, until = Site(place, dice.getrandbits(30), Trouble(place)), Found(), time.monotonic() + budget
    try:
        site.start()
        library = Library.of(site.settings)
        site.write()
        while not found.runs or time.monotonic() < until:
            site.let_through()
            once(site, library, dice, found.runs)
            site.recovered()
            found.runs += 1
        site.rest()
        _judge(site, found)
    finally:
        site.close()
    return found


def _judge(site: Site, found: Found) -> None:
    now = verdict(site)
    now.phantom |= {
        alert["id"]: f"scored by {alert['model_version']}, which never was valid"
        for alert in site.alerts()
        if alert["model_version"] not in GOOD
    }
    now.add_to(found)
    assert now.clean, str(now)


def _damaged(site: Site, library: Library, dice: random.Random, number: int) -> None:
    version, kind = f"2099010100{number:04}", dice.choice(sorted(DAMAGES))
    before = _scoring(site)
    _drop(site, version, kind, dice)
    if library.book(SELL.name).deployed is None:  # then the newest is deployed, if it can be trusted
        gone.eventually(lambda: version in _refusal(site), f"{kind}: refused, but /v1/models does not name it")
    said = _promoted(site, version)
    assert version in said, f"{kind}: refused as {said!r}, which does not name it"
    if dice.random() < 0.5:
        site.kill(PROCESSES[dice.choice(["engine", "api"])])
    assert (scoring := _scoring(site)) == before, f"{kind}: {scoring} scores, not {before}"
    _agreed(site, library, number, before)
    if dice.random() < 0.5:
        shutil.rmtree(library.place(SELL.name, version))
    after = dice.choice(GOOD)
    library.promote(SELL.name, after, "p", "goes on")
    gone.eventually(lambda: _scoring(site) == after, f"the API does not score with {after}")


def _drop(site: Site, version: str, kind: str, dice: random.Random) -> None:
    """Made aside and renamed into its place, as a copy is that comes whole; the damage is inside."""
    made = site.settings.home / "made"
    shutil.copytree(site.settings.home.parent / "models" / SELL.name / VERSION, made)
    sealed(made, version=version)
    DAMAGES[kind](made, dice)
    made.rename(site.settings.home / "onnx_models" / SELL.name / version)


def _cut(place: Path, dice: random.Random) -> None:
    file = place / card.ONNX
    content = file.read_bytes()
    file.write_bytes(content[: dice.randrange(len(content))])


def _cut_and_sealed(place: Path, dice: random.Random) -> None:
    _cut(place, dice)
    sealed(place, version=card.decode((place / card.METADATA).read_bytes()).version)


def _wrong_sum(place: Path, dice: random.Random) -> None:
    file = place / card.METADATA
    told = card.decode(file.read_bytes())
    files = told.files | {card.ONNX: "0" * len(told.files[card.ONNX])}
    file.write_bytes(card.encode(msgspec.structs.replace(told, files=files)))


def _no_metadata(place: Path, dice: random.Random) -> None:
    (place / card.METADATA).write_bytes(b'{"name": "likely_')


def _graph(name: str) -> Damage:
    def damage(place: Path, dice: random.Random) -> None:
        model = onnx.load_model_from_string((place / card.ONNX).read_bytes())
        GRAPHS[name](model)
        (place / card.ONNX).write_bytes(model.SerializeToString())
        sealed(place, version=card.decode((place / card.METADATA).read_bytes()).version)

    return damage


DAMAGES: dict[str, Damage] = {
    "cut": _cut,
    "cut, with the right sum": _cut_and_sealed,
    "wrong sum": _wrong_sum,
    "metadata cut": _no_metadata,
    **{name: _graph(name) for name in GRAPHS if name not in TREES},
}


def _swapped(site: Site, library: Library, dice: random.Random, number: int) -> None:
    words = [sys.executable, "-c", CHANGER, *map(str, library.places), SELL.name]
    with ExitStack() as stack:
        racing = [
            stack.enter_context(subprocess.Popen([*words, f"{number}-{i}", *GOOD], stdout=subprocess.PIPE))
            for i in range(2)
        ]
        for process in racing:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
        for _ in range(dice.randint(2, 6)):
            _asked_for(site, dice)
            time.sleep(dice.uniform(0.05, 0.3))
        for process in racing:
            assert process.poll() is None, "a change failed"
            process.kill()
    if dice.random() < 0.5:
        site.kill(PROCESSES[dice.choice(["engine", "api"])])
    done = time.monotonic()
    book = library.book(SELL.name)
    whole(book)
    assert book.deployed
    _scoring(site)  # it is up again
    time.sleep(max(done + AGREED_S - time.monotonic(), 0.0))
    _agreed(site, library, number, book.deployed)


def _asked_for(site: Site, dice: random.Random) -> None:
    """A promotion or rollback by HTTP, among those by others."""
    with suppress(Closed, Conflict), closing(site.door()) as door:
        try:
            what = "rollback" if dice.random() < 0.3 else "promote"
            told = {} if what == "rollback" else {"version": dice.choice(GOOD)}
            door.post(f"/v1/models/{SELL.name}/{what}", msgspec.json.encode(told), {})
        except Turned as turned:
            if turned.status not in {CONFLICT, 503}:
                raise


def _promoted(site: Site, version: str) -> str:
    """What is said to whoever promotes it. AssertionError where nothing is."""
    while True:
        with closing(site.door()) as door:
            try:
                door.post(f"/v1/models/{SELL.name}/promote", msgspec.json.encode({"version": version}), {})
            except Turned as turned:
                if turned.status == CONFLICT:
                    return str(turned)
            except Closed:
                pass
            else:
                raise AssertionError(f"{version} was promoted")
        time.sleep(0.2)


def _agreed(site: Site, library: Library, number: int, version: str) -> None:
    """The API says so, and so does the alert of somebody new."""
    gone.eventually(lambda: _scoring(site) == version, f"the API does not score with {version}", AGREED_S + 1)
    user = f"agreed-{number}-{site.dice.getrandbits(30):x}"
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    calls: list[Call] = [
        {"type": "track", "event": CHECK.segment[0], "userId": user, "messageId": f"{user}-{i}", "timestamp": stamp}
        for i in range(CHECKS)
    ]
    with closing(site.door()) as door:
        Client(door, site.ledger, site.dice).send(calls, until_told=True)
    (alert,) = gone.eventually(lambda: [a for a in site.alerts() if a["user"] == user], f"no alert of {user}")
    scored = alert["model_version"]
    assert scored == version, f"the engine scores with {scored}, the registry says {version}"


def _listed(site: Site) -> dict[str, object]:
    def read() -> str:
        with suppress(Closed, Turned), closing(site.door()) as door:
            return door.text("/v1/models")
        return ""

    models = json.loads(gone.eventually(read, "/v1/models stays away"))["models"]
    return dict(next(model for model in models if model["name"] == SELL.name))


def _scoring(site: Site) -> str:
    return str(_listed(site)["scoring"])


def _refusal(site: Site) -> str:
    return str(_listed(site).get("refused") or "")
