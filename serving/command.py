"""The command `telltale`. What it does stands elsewhere and is imported when it is asked for."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from feature_repo.settings import SettingError, Settings, load
from serving.complaint import Complaint

ROOT = Path(__file__).resolve().parent.parent
INTO = "into a Telltale that runs with TELLTALE_CLOCK=log"
SIMULATOR = {
    "people": "how many people",
    "days": "of history before the clock starts",
    "speed": "simulated seconds a second",
    "seed": "another seed is another world",
    "until": "simulated days since the start, then end",
}
Act = Callable[[Settings, argparse.Namespace, Sequence[str]], int | None]
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001  # it has no public name


def main(argv: Sequence[str] | None = None) -> int:
    """0: done; 1: `doctor` or a job found something wrong; 2: it could not be done, and one line said why."""
    given, more = parser().parse_known_args(argv)
    if more and not given.takes_more:
        parser().error(f"unknown: {' '.join(more)}")
    from feature_repo.vocabulary import VocabularyError
    from flows.resp import StoreError

    try:
        _refuse_python()
        return int(given.act(load(), given, more) or 0)
    except (Complaint, SettingError, VocabularyError, StoreError) as error:
        print(f"telltale: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read what we print has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="telltale", description="Notices within a second that a person is about to act.")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add(commands, "up", "everything but the simulator; what dies is started again", _up)
    _add(commands, "engine", "one more engine over a store that runs, here or on another machine", _engine)
    _simulator_options(_add(commands, "run", "everything, with simulated people, on the screen", _run))
    _simulator_options(_add(commands, "simulate", f"simulated people, {INTO}", _simulate))
    _replay_options(_add(commands, "replay", f"the calls of a file, {INTO}", _replay))
    _init_options(_add(commands, "init", "a domain of your own to begin with, in a new directory", _init))
    _add(commands, "backfill", "features of the past, by the stream's own code", _job("backfill"), more=True)
    _add(commands, "consistency", "a sample of what was served, computed again", _job("consistency"), more=True)
    _add(commands, "rebuild", "state and features from the lake into an empty Redis", _job("rebuild"), more=True)
    _file_option(_add(commands, "backup", "log, state, SQL, lake and models into one file", _backup))
    _file_option(_add(commands, "restore", "a backup into a home where nothing is yet", _restore))
    _add(commands, "train", "a model, from histories to a new version in onnx_models", _job("train"), more=True)
    _add(commands, "bench", "benchmarks of a checkout; --json for a machine", _of_a_checkout("bench"), more=True)
    _add(commands, "faults", "the fault laboratory of a checkout", _of_a_checkout("faults"), more=True)
    _doctor_options(_add(commands, "doctor", "what is missing or wrong, in plain words", _doctor))
    _user_options(_add(commands, "user", "one person: features, signals, scores and reasons", _user))
    _features_options(_add(commands, "features", "the feature store: check, address, serve, report", _features))
    _models_options(_add(commands, "models", "the registry: list, show, promote, rollback, verify", _models))
    _delivery_options(_add(commands, "delivery", "what was sent where: list, dead, retry", _delivery))
    _learning_options(_add(commands, "learning", "what outcomes taught: status, report", _learning))
    _keys_options(_add(commands, "keys", "the write keys; `keys make ORGANISATION` makes one", _keys))
    return top


def _add(commands: Commands, name: str, says: str, act: Act, *, more: bool = False) -> argparse.ArgumentParser:
    """`more`: what we do not know is handed on to the job that we start."""
    one = commands.add_parser(name, help=says, description=says, add_help=not more)
    one.set_defaults(act=act, takes_more=more)
    return one


def _simulator_options(simulate: argparse.ArgumentParser) -> None:
    for name, says in SIMULATOR.items():
        simulate.add_argument(f"--{name}", type=float if name == "speed" else int, help=says)


def _simulator_words(given: argparse.Namespace) -> list[str]:
    """The options that were given, as the simulator takes them; it knows the defaults."""
    told = {name: getattr(given, name) for name in SIMULATOR if getattr(given, name) is not None}
    return [word for name, value in told.items() for word in (f"--{name}", str(value))]


def _replay_options(replay: argparse.ArgumentParser) -> None:
    replay.add_argument("file", type=Path, help="JSON lines: Segment's track and identify calls with their timestamps")
    replay.add_argument("--speed", type=float, default=0.0, help="seconds of the file a second; 0: as fast as it goes")
    replay.add_argument("--history", action="store_true", help="count the events, but let no alert fire")
    replay.add_argument("--key", help="write key; default: the first there is")


def _file_option(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", type=Path, help="the backup, a tar")


def _doctor_options(doctor: argparse.ArgumentParser) -> None:
    doctor.add_argument("--accept-loss", action="store_true", help="go on without the events that it says are lost")


def _init_options(init: argparse.ArgumentParser) -> None:
    init.add_argument("directory", type=Path, help="where it goes; new or empty")


def _user_options(user: argparse.ArgumentParser) -> None:
    user.add_argument("id", help="user id, or anon:<anonymousId>")
    user.add_argument("--follow", action="store_true", help="go on showing it, live, until Ctrl-C")
    user.add_argument("--key", help="write key of the user's organisation; default: the first there is")


def _keys_options(keys: argparse.ArgumentParser) -> None:
    keys.set_defaults(do="list")
    do = keys.add_subparsers(metavar="DO")
    do.add_parser("list", help="all of them").set_defaults(do="list")
    make = do.add_parser("make", help="one for an organisation")
    make.set_defaults(do="make")
    make.add_argument("organisation")
    make.add_argument("--admin", action="store_true", help="it may also train and deploy models")


def _features_options(features: argparse.ArgumentParser) -> None:
    from serving.features_command import options

    options(features)


def _models_options(models: argparse.ArgumentParser) -> None:
    from serving.models_command import options

    options(models)


def _delivery_options(delivery: argparse.ArgumentParser) -> None:
    from serving.delivery_command import options

    options(delivery)


def _learning_options(learning: argparse.ArgumentParser) -> None:
    from serving.learning_command import options

    options(learning)


def _refuse_python() -> None:
    if sys.version_info[:2] not in {(3, 11), (3, 12)}:
        raise Complaint(f"Telltale needs Python 3.11 or 3.12, this is {sys.version.split()[0]}")


def _up(settings: Settings, given: argparse.Namespace, more: Sequence[str]) -> None:
    from serving.up import up

    up(settings)


def _engine(settings: Settings, given: argparse.Namespace, more: Sequence[str]) -> None:
    from serving.up import engine

    engine(settings)


def _run(settings: Settings, given: argparse.Namespace, more: Sequence[str]) -> None:
    from serving.up import run

    run(settings, _simulator_words(given))


def _simulate(settings: Settings, given: argparse.Namespace, more: Sequence[str]) -> int:
    from serving.client import Door

    key = _log_clock_key(settings)
    url = Door(settings, key).url
    return _module("training.live", settings, "--url", url, "--key", key, *_simulator_words(given))


def _replay(settings: Settings, given: argparse.Namespace, more: Sequence[str]) -> None:
    from serving.replay import replay

    replay(settings, given.key or _log_clock_key(settings), given.file, given.speed, given.history)


def _init(settings: Settings, given: argparse.Namespace, more: Sequence[str]) -> None:
    from serving.starter import init

    init(given.directory)


def _backup(settings: Settings, given: argparse.Namespace, more: Sequence[str]) -> None:
    from serving.backup import backup

    backup(settings, given.file)


def _restore(settings: Settings, given: argparse.Namespace, more: Sequence[str]) -> None:
    from serving.restore import restore

    restore(settings, given.file)


def _job(name: str) -> Act:
    def act(settings: Settings, given: argparse.Namespace, more: Sequence[str]) -> int:
        return _module("training", settings, name, *more)

    return act


def _of_a_checkout(name: str) -> Act:
    def act(settings: Settings, given: argparse.Namespace, more: Sequence[str]) -> int:
        if not (ROOT / "tests" / name).is_dir():
            raise Complaint(f"tests/{name} lives in a checkout: clone the repository, then `make {name}`")
        return _module(f"tests.{name}", settings, *more)

    return act


def _doctor(settings: Settings, given: argparse.Namespace, more: Sequence[str]) -> int:
    from serving.doctor import accept_losses, examine

    return accept_losses(settings) if given.accept_loss else examine(settings)


def _user(settings: Settings, given: argparse.Namespace, more: Sequence[str]) -> None:
    from serving.follow import follow, once

    (follow if given.follow else once)(settings, given.key or _first_key(settings), given.id)


def _keys(settings: Settings, given: argparse.Namespace, more: Sequence[str]) -> None:
    from flows.store import connect
    from serving import write_keys

    client = connect(settings)
    try:
        if given.do == "make":
            print(write_keys.make(client, given.organisation, admin=given.admin))
            return
    except ValueError as error:
        raise Complaint(str(error)) from None
    admins = write_keys.administrators(client)
    for key, organisation in write_keys.listed(client).items():
        print(f"{key}  {organisation}" + ("  admin" if key in admins else ""))


def _features(settings: Settings, given: argparse.Namespace, more: Sequence[str]) -> int:
    return int(given.do(settings, given))


def _models(settings: Settings, given: argparse.Namespace, more: Sequence[str]) -> int:
    from serving.models_command import run

    return run(settings, given)


def _delivery(settings: Settings, given: argparse.Namespace, more: Sequence[str]) -> int:
    from serving.delivery_command import run

    return run(settings, given)


def _learning(settings: Settings, given: argparse.Namespace, more: Sequence[str]) -> int:
    from serving.learning_command import run

    return run(settings, given)


def _first_key(settings: Settings) -> str:
    from flows.store import connect
    from serving import write_keys

    return write_keys.first(connect(settings))[0]


def _log_clock_key(settings: Settings) -> str:
    """The first key of a store that takes time from events. Raises Complaint for one that does not."""
    from flows.store import connect, open_store

    clock = open_store(connect(settings)).clock
    if clock != "log":
        raise Complaint(
            "this store lives in real time, and simulate and replay bring their own clock: "
            "start Telltale on another TELLTALE_HOME with TELLTALE_CLOCK=log"
        )
    return _first_key(settings)


def _module(name: str, settings: Settings, *args: str) -> int:
    """Runs a module of ours in a process of its own, with our settings; its exit code."""
    from serving.supervisor import environment

    where = ROOT if name.startswith("tests") else None
    process = subprocess.Popen([sys.executable, "-m", name, *args], env=environment(settings), cwd=where)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # the terminal sent it to the job as well: it ends by itself
            continue


if __name__ == "__main__":
    sys.exit(main())
