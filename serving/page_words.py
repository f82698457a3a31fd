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


def stamp(at: str) -> str:
    """ISO 8601 in UTC as a person reads it."""
    return f"{datetime.fromisoformat(at).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def percent(part: float | None) -> str:
    return "–" if part is None else share(part)


def whole(part: float) -> str:
    """A share in whole percent; what is not quite all does not look so."""
    return f"{min(part * 100, 99) if part < 1 else 100:.0f} %"


def span(low: float, high: float) -> str:
    """A range of shares, in whole percent."""
    return f"{low * 100:.0f}–{high * 100:.0f} %"


def tenth(low: str) -> str:
    """The tenth of scores that begins there: `0.3` as `0.3–0.4`."""
    return f"{low}–{float(low) + 0.1:.1f}"


def part(value: float) -> str:
    """0-1 in two digits."""
    return f"{value:.2f}"


def quoted(text: str) -> str:
    """As one part of a path."""
    return quote(text, safe="")


def seconds(value: float) -> str:
    """A span in the unit that suits it."""
    for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if value >= 2 * size:
            return f"{value / size:.3g} {name}"
    if 0 < value < 1:
        return f"{value * 1000:.3g} ms"
    return f"{value:.2g} s" if value < 10 else f"{value:.0f} s"


def gist(description: str) -> str:
    """Without its note: `days since the last visit; 365 = a year or never`."""
    return description.partition("; ")[0]


def hours(value: float | None) -> str:
    """Hours in the unit that suits them."""
    return "–" if value is None else seconds(value * 3600)


def exact(value: float | None) -> str:
    """A feature's value: three digits that matter, and no powers of ten."""
    return "< 0.001" if value is not None and 0 < abs(value) < 0.001 else number(value)


def amount(value: float) -> str:
    return f"{value:,.2f}".removesuffix(".00")


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
    "stamp": stamp,
    "percent": percent,
    "part": part,
    "whole": whole,
    "tenth": tenth,
    "quoted": quoted,
    "plural": plural,
    "number": number,
    "amount": amount,
    "gist": gist,
    "exact": exact,
    "hours": hours,
    "seconds": seconds,
}
