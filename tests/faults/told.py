"""An oracle that is told the log, from its raw JSON: what counted, and what everybody's features must be."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime

from feature_repo.vocabulary import Vocabulary
from flows.entry import ANONYMOUS
from tests.faults.calls import CHECK, Call
from tests.flows.both_sides import VOCABULARY
from tests.flows.oracle import IDENTIFY, Oracle


def told(calls: Iterable[tuple[int, Call]], vocabulary: Vocabulary = VOCABULARY) -> Oracle:
    """Of (the log's time, call) in the order of each partition; `vocabulary`: which events and traits count."""
    oracle, joins = Oracle(), dict[str, str]()
    for now, call in calls:
        _tell(oracle, now, call, vocabulary)
        if "anonymousId" in call and "userId" in call:
            joins[f"{ANONYMOUS}{call['anonymousId']}"] = call["userId"]
    for anonymous, user in joins.items():
        if anonymous in oracle.people:
            person = oracle.person(user)
            own = person.now  # what they did anonymously but too late passes nothing on, no time either
            person.absorb(oracle.people.pop(anonymous), 0)
            person.now = own
    return oracle


def checking(oracle: Oracle, days: int, enough: int) -> set[str]:
    """Who had their property valued so often in so many days."""
    return {user for user, person in oracle.people.items() if person.count(CHECK.name, days) >= enough}


def _tell(oracle: Oracle, now: int, call: Call, vocabulary: Vocabulary) -> None:
    user = call.get("userId") or f"{ANONYMOUS}{call['anonymousId']}"
    ts = int(datetime.fromisoformat(call["timestamp"]).timestamp() * 1000)
    event, tag, value, traits = IDENTIFY, None, 0, []
    if call["type"] == "track":
        known = vocabulary.named(call["event"])
        if known is None:
            oracle.receive(user, now, ts, None, message=call["messageId"])
            return
        tagged = call["properties"].get(known.tag) if known.tag else None
        event, tag = known.name, tagged if tagged in known.tags else None
        value = round(call["properties"].get(known.value, 0) * 1000) if known.value else 0
    elif call["type"] == "identify":
        traits = [(name, _trait(value)) for name, value in call.get("traits", {}).items()]
    was = oracle.people[user].now if user in oracle.people else 0
    outcome = oracle.receive(user, now, ts, event, message=call["messageId"], tag=tag, value=value, traits=traits)
    if outcome == "late" and user.startswith(ANONYMOUS):
        oracle.person(user).now = was  # whoever they turn out to be: nothing is passed on, so their time stands


def _trait(value: float | str) -> float:
    """Dates as ms; of a text only equality counts."""
    if isinstance(value, str):
        with suppress(ValueError):
            return datetime.fromisoformat(value).replace(tzinfo=UTC).timestamp() * 1000
        return int.from_bytes(value.encode(), "little")
    return value
