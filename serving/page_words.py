"""How values read on a page: types and states in words, numbers with the digits that matter, times."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from urllib.parse import quote

from serving.charts import number, share


def words(name: str) -> str:
    """`LIKELY_TO_SELL` and `likely_to_sell` as `Likely to sell`."""
    return name.replace("_", " ").capitalize()


def iso(ms: int) -> str:
    """Milliseconds since 1970 as a machine reads them."""
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%dT%H:%M:%S}Z"


def moment(ms: int) -> str:
    """Milliseconds since 1970 as a person reads them, in UTC; a script makes it the reader's own time."""
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M} UTC"


def percent(part: float | None) -> str:
    return "–" if part is None else share(part)


def part(value: float) -> str:
    """0-1 in two digits."""
    return f"{value:.2f}"


def quoted(text: str) -> str:
    """As one part of a path."""
    return quote(text, safe="")


def plural(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


DONE = {
    "ACKNOWLEDGED": "acknowledged",
    "DISMISSED": "dismissed",
    "CONVERTED": "converted",
    "outcome": "answered with its outcome",
}
_SAID = re.compile(rf"({'|'.join(DONE)})\.(\d{{1,6}})\.(\d{{1,6}})")


def said(told: str) -> str:
    """What a form led to, as its address has it: `ACKNOWLEDGED.2.3`. Empty for all else: anybody may write one."""
    if told == "signed-out":
        return "You are signed out."
    if (found := _SAID.fullmatch(told)) is None:
        return ""
    did, done, asked = DONE[found[1]], int(found[2]), int(found[3])
    left = f"; {plural(asked - done, 'other')} could not be: where it stands does not allow it" if asked > done else ""
    return f"{plural(done, 'alert')} {did}{left}."


FILTERS = {
    "words": words,
    "iso": iso,
    "moment": moment,
    "percent": percent,
    "part": part,
    "quoted": quoted,
    "plural": plural,
    "number": number,
}
