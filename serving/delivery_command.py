"""`telltale delivery ...`: what was sent where, what waits, what is dead, and dead ones sent again."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from feature_repo.settings import Settings
from serving.complaint import Complaint
from serving.sub_command import Commands, add

if TYPE_CHECKING:
    import sqlalchemy as sa

    from flows.delivery_list import Listed, Which

Do = Callable[["sa.Engine", argparse.Namespace], None]
USUAL = 50
FILTERS = {
    "organisation": "of one organisation",
    "channel": "of one channel, as webhook",
    "target": "to one target, as a webhook's id",
    "alert": "of one alert, by its id",
}


def options(delivery: argparse.ArgumentParser) -> None:
    from flows.delivery_state import STATES

    commands = delivery.add_subparsers(title="commands", metavar="COMMAND", required=True)
    listed = _add(commands, "list", "how many there are, and the latest", _list)
    listed.add_argument("--state", choices=STATES)
    dead = _add(commands, "dead", "those that are tried no more, and why", _dead)
    retry = _add(commands, "retry", "send again what is dead, or waits", _retry)
    retry.add_argument("ids", nargs="*", metavar="ID")
    retry.add_argument("--all", action="store_true", help="all that are dead, of those that the filters keep")
    for shows in (listed, dead):
        shows.add_argument("--limit", type=int, default=USUAL, help=f"at most so many (default: {USUAL})")
        shows.add_argument("--json", action="store_true", help="for a machine, a line each")


def _add(commands: Commands, name: str, says: str, do: Do) -> argparse.ArgumentParser:
    one = add(commands, name, says, do)
    for option, meaning in FILTERS.items():
        one.add_argument(f"--{option}", help=meaning)
    return one


def run(settings: Settings, given: argparse.Namespace) -> int:
    """Raises Complaint."""
    import sqlalchemy as sa

    from flows.alert_store import open_alerts

    try:
        store = open_alerts(settings)
        given.do(store.engine, given)
        store.close()
    except sa.exc.OperationalError as error:
        raise Complaint(f"the database cannot be asked now: {error.args[0]}") from None
    return 0


def _which(given: argparse.Namespace) -> Which:
    from flows.delivery_list import Which

    return Which(**{name: getattr(given, name) for name in FILTERS}, state=getattr(given, "state", None))


def _list(engine: sa.Engine, given: argparse.Namespace) -> None:
    from flows import delivery_figures, delivery_list

    with engine.connect() as connection:
        figures = delivery_figures.by_channel(connection, given.organisation)
        found = delivery_list.listed(connection, _which(given), given.limit)
    if not given.json:
        for channel, one in figures.items():
            told = {name: getattr(one, name) for name in one.__struct_fields__}
            print(f"{channel:10}" + "  ".join(f"{name} {n:,}" for name, n in told.items()))
    _show(found, given)


def _dead(engine: sa.Engine, given: argparse.Namespace) -> None:
    given.state = "DEAD"
    from flows import delivery_list

    with engine.connect() as connection:
        found = delivery_list.listed(connection, _which(given), given.limit)
    _show(found, given)
    if not found and not given.json:
        print("none is dead")


def _retry(engine: sa.Engine, given: argparse.Namespace) -> None:
    from flows import delivery_list
    from flows.delivery import wall_ms

    if bool(given.ids) == given.all:
        raise Complaint("expected ids of deliveries (`telltale delivery dead` lists them), or --all")
    which, found = _which(given), list[str]()
    while True:
        with engine.begin() as connection:
            some = (
                delivery_list.retry_dead(connection, which, wall_ms())
                if given.all
                else delivery_list.retry(connection, which, given.ids, wall_ms())
            )
        found += some
        if not given.all or len(some) < delivery_list.MANY:
            break
    missing = [id_ for id_ in given.ids if id_ not in found]
    print(f"{len(found)} to be sent again within a second, while Telltale runs")
    if missing:
        raise Complaint(f"neither dead nor waiting: {', '.join(missing)}")


def _show(found: list[Listed], given: argparse.Namespace) -> None:
    import msgspec

    from feature_repo.moments import instant

    for one in found:
        if given.json:
            print(msgspec.json.encode(one).decode())
            continue
        about = one.alert_id or "-"
        why = f"  {one.last_error}" if one.last_error else ""
        when = f"{instant(one.created_at):%Y-%m-%d %H:%M:%S}"
        tries = f"{one.attempts} tries" if one.attempts != 1 else "1 try"
        print(f"{one.id}  {when}  {one.state:9}  {one.channel} {one.target}  {about}  {tries}{why}".rstrip())
