"""What the registry says of one model: a frozen book, and the changes that it allows.

It lies as `registry.json` beside the model's versions (library.py). Each change is a function from a book to the next.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal, TypeAlias

import msgspec

from onnx_models.registry import Conflict

FILE = "registry.json"
HISTORY = 1_000  # changes told
State = Literal["TRAINING", "VALIDATING", "SHADOW", "DEPLOYED", "RETIRED"]
_MAY: dict[State | None, tuple[State, ...]] = {  # DEPLOYED comes and goes by `promoted` and `rolled_back`
    None: ("TRAINING", "VALIDATING", "SHADOW", "RETIRED"),
    "TRAINING": ("VALIDATING", "SHADOW", "RETIRED"),
    "VALIDATING": ("SHADOW", "RETIRED"),
    "SHADOW": ("RETIRED",),
    "RETIRED": ("SHADOW",),
    "DEPLOYED": (),
}


class By(msgspec.Struct, frozen=True):
    """Who changes something, and why."""

    who: str
    why: str
    at: datetime


class Change(msgspec.Struct, frozen=True):
    """One line of the history: which version came into which state, by whom and why."""

    generation: int
    at: datetime
    who: str
    what: Literal["register", "promote", "rollback", "retire"]
    version: str
    state: State
    why: str


class Book(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`generation` grows by one a change. `deployed`: None: the newest version that is not in `states`.

    `before`: what was deployed before, latest last: where a rollback leads. `failed`: versions that a gate stopped,
    and why: they are never deployed.
    """

    generation: int = 0
    deployed: str | None = None
    shadow: str | None = None
    before: tuple[str, ...] = ()
    states: dict[str, State] = {}
    failed: dict[str, str] = {}
    history: tuple[Change, ...] = ()


What: TypeAlias = Literal["register", "promote", "rollback", "retire"]


def encode(book: Book) -> bytes:
    return msgspec.json.format(msgspec.json.encode(book), indent=1)


def decode(text: bytes) -> Book:
    """Raises msgspec.MsgspecError."""
    return msgspec.json.decode(text, type=Book)


def registered(book: Book, version: str, state: State, by: By) -> Book:
    """The version in that state; what was in the shadow before is retired. Raises Conflict, and for DEPLOYED too."""
    now = book.states.get(version)
    if state not in _MAY[now] or (state == "SHADOW" and version in book.failed):
        why = f", a gate stopped it: {book.failed[version]}" if version in book.failed else ""
        may = " or ".join(_MAY[now]) or "another version to be promoted"
        raise Conflict(f"{version} is {now or 'not registered'}{why}: expected {may}, got {state}")
    states = dict(book.states)
    if state == "SHADOW" and book.shadow:
        states[book.shadow] = "RETIRED"
    states[version] = state
    shadow = version if state == "SHADOW" else None if book.shadow == version else book.shadow
    failed = book.failed | ({version: by.why} if state == "RETIRED" and now in {"TRAINING", "VALIDATING"} else {})
    what: What = "retire" if state == "RETIRED" else "register"
    return _next(book, what, version, by, shadow=shadow, states=states, failed=failed)


def promoted(book: Book, version: str, deployed: str | None, by: By) -> Book:
    """The version deployed, instead of `deployed`; the same book where it is already. Raises Conflict."""
    if version == book.deployed:
        return book
    now = book.states.get(version)
    if version in book.failed or now in {"TRAINING", "VALIDATING"}:
        raise Conflict(f"{version} is {now}: expected a version that passed its gates{_because(book, version)}")
    before = (*(v for v in book.before if v != version), deployed) if deployed and deployed != version else book.before
    return _next(book, "promote", version, by, before=tuple(before), **_deploy(book, version, deployed))


def rolled_back(book: Book, version: str, deployed: str | None, by: By) -> Book:
    """The version deployed that was so before; `deployed` is retired, and no rollback leads to it any more."""
    kept = book.before[: book.before.index(version)] if version in book.before else ()
    return _next(book, "rollback", version, by, before=kept, **_deploy(book, version, deployed))


def _deploy(book: Book, version: str, deployed: str | None) -> dict[str, object]:
    states: dict[str, State] = book.states | ({deployed: "RETIRED"} if deployed else {}) | {version: "DEPLOYED"}
    return {"deployed": version, "shadow": None if book.shadow == version else book.shadow, "states": states}


def _because(book: Book, version: str) -> str:
    return f"; it was stopped: {book.failed[version]}" if version in book.failed else ""


def _next(book: Book, what: What, version: str, by: By, **changes: object) -> Book:
    generation = book.generation + 1
    after = msgspec.structs.replace(book, generation=generation, **changes)
    told = Change(generation, by.at, by.who, what, version, after.states[version], by.why)
    return msgspec.structs.replace(after, history=(*book.history, told)[-HISTORY:])
