"""A CRM by its HTTP interface: where a person's record is, and which of our fields go where in it."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any, Literal, get_args
from urllib.parse import quote

import msgspec

from flows.alert import Alert
from flows.kept import Kept, table
from flows.links import Links, person_path
from flows.words import SOON, Advice, one_line

CRM = "crm"  # the channel
Method = Literal["POST", "PUT", "PATCH"]
Field = Literal[
    "user",
    "alert_id",
    "type",
    "score",
    "score_percent",
    "confidence",
    "confidence_percent",
    "priority",
    "explanation",
    "reasons",
    "advice",
    "model",
    "model_version",
    "scored_at",
    "link",
]
FIELDS: tuple[Field, ...] = get_args(Field)
PLACES = ("user", "alert_id", "type")  # what a URL may name, in braces
USUAL: dict[Field, str] = {
    "score": "/score",
    "confidence": "/confidence",
    "explanation": "/explanation",
    "priority": "/priority",
    "type": "/type",
    "alert_id": "/alert_id",
}
DOTS = (".", "..")  # in a path these lead elsewhere


class CrmRequest(msgspec.Struct, frozen=True):
    """What every attempt sends, but for the headers, whose secrets are read as of each. `url` empty: `why` not."""

    method: Method
    url: str
    json: msgspec.Raw
    why: str = ""


class CrmTarget(msgspec.Struct, frozen=True, kw_only=True):
    """One CRM. `url` names the record (`https://crm.example/contacts/{user}`); `headers` hold its secrets.

    `fields`: our field -> JSON pointer (RFC 6901) of where it goes; `constants`: pointer -> what always stands there,
    written first. A step that meets no list makes an object.
    """

    id: str
    organisation: str
    name: str
    url: str
    method: Method = "PATCH"
    headers: dict[str, str] = {}
    fields: dict[Field, str] = msgspec.field(default_factory=lambda: dict(USUAL))
    constants: dict[str, Any] = {}
    enabled: bool = True
    created_at: int = 0
    updated_at: int = 0

    def request(self, alert: Alert, advice: Advice, links: Links) -> bytes:
        known = values(alert, advice, links)
        try:
            url, body = self.record(known), self.written(known)
        except ValueError as error:
            return msgspec.json.encode(CrmRequest(self.method, "", msgspec.Raw(b"null"), str(error)))
        return msgspec.json.encode(CrmRequest(self.method, url, msgspec.Raw(msgspec.json.encode(body))))

    def record(self, known: dict[str, Any]) -> str:
        """The address of the person's record. Raises ValueError where their id cannot stand in one."""
        url = self.url
        for name in PLACES:
            if f"{{{name}}}" in url and known[name] in DOTS:
                raise ValueError(f"the {name} {known[name]!r} would lead elsewhere in the URL")
        for name in PLACES:
            url = url.replace(f"{{{name}}}", quote(known[name], safe="", errors="replace").replace("{", "%7B"))
        return url

    def written(self, known: dict[str, Any]) -> Any:
        """The JSON that is sent. Raises ValueError where two pointers do not go together."""
        found: dict[str, Any] = {}
        for pointer, value in self.constants.items():
            put(found, pointer, copy.deepcopy(value))
        for name, pointer in self.fields.items():
            put(found, pointer, known[name])
        return found


def values(alert: Alert, advice: Advice, links: Links) -> dict[str, Any]:
    """What can be written, by name."""
    return {
        "user": alert.user,
        "alert_id": alert.id,
        "type": alert.type,
        "score": alert.score,
        "score_percent": round(alert.score * 100),
        "confidence": alert.confidence,
        "confidence_percent": round(alert.confidence * 100),
        "priority": alert.priority,
        "explanation": "; ".join(one_line(reason, 400) for reason in alert.reasons),
        "reasons": list(alert.reasons),
        "advice": advice.get(alert.type) or SOON[alert.priority],
        "model": alert.model,
        "model_version": alert.model_version,
        "scored_at": datetime.fromtimestamp(alert.scored_at / 1000, UTC).isoformat().replace("+00:00", "Z"),
        "link": links.plain(person_path(alert.user)),
    }


def put(whole: Any, pointer: str, value: Any) -> None:
    """Writes where the pointer points. Raises ValueError where that is no place, or inside of a value."""
    if not pointer.startswith("/"):
        raise ValueError(f"expected a JSON pointer, as `/properties/score`, got {pointer[:100]!r}")
    *steps, last = (step.replace("~1", "/").replace("~0", "~") for step in pointer[1:].split("/"))
    place = whole
    for step in steps:
        place = place.setdefault(step, {}) if isinstance(place, dict) else place[_index(place, step, pointer)]
    if isinstance(place, dict):
        place[last] = value
    else:
        place[_index(place, last, pointer)] = value


def _index(place: Any, step: str, pointer: str) -> int:
    if not isinstance(place, list) or not step.isdecimal() or int(step) >= len(place):
        raise ValueError(f"{pointer[:100]!r} leads through what is no object, nor a list with a place {step[:20]!r}")
    return int(step)


crm_targets = Kept(table("crm_targets"), CrmTarget)
