"""What comes in and what goes out: the types that validate are the types that `/openapi.json` shows.

Requests follow Segment's HTTP Tracking API (https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/),
responses are ours. Fields that we do not name are kept in the stored JSON.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct

EVENT_BYTES = 32 * 1024
BATCH_BYTES = 500 * 1024
BATCH_EVENTS = 2500
ID_BYTES = 512

# What `intake.person` takes: no control characters, no number beyond 63 bits.
ANY_ID = {
    "pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$",
    "minLength": 1,
    "maxLength": ID_BYTES,
    "minimum": -(2**63) + 1,
    "maximum": 2**63 - 1,
}
Id = Annotated[
    str | int | None,
    Meta(
        description=f"At most {ID_BYTES} bytes of UTF-8 without control characters",
        examples=["user-4711"],
        extra_json_schema={**ANY_ID, "minLength": 0, "pattern": r"^(?!anon:)[^\u0000-\u001f\u007f-\u009f]*$"},
    ),
]
Moment = Annotated[datetime | None, Meta(extra_json_schema={"format": "date-time"})]
Object = Annotated[Raw, Meta(extra_json_schema={"type": "object"})]


class Message(Struct, tag_field="type", kw_only=True):
    """What all calls share. One of `userId` and `anonymousId` is needed."""

    userId: Id = None
    anonymousId: Id = None
    messageId: Annotated[
        Annotated[str, Meta(min_length=1, max_length=ID_BYTES)] | None,
        Meta(description="Resent under the same id, an event counts once"),
    ] = None
    timestamp: Annotated[Moment, Meta(description="When it happened, by the sender's clock")] = None
    originalTimestamp: Annotated[Moment, Meta(description="Segment's other name for `timestamp`")] = None
    sentAt: Annotated[Moment, Meta(description="When it was sent, by that clock: this corrects it")] = None
    writeKey: Annotated[str | None, Meta(description="Instead of Basic auth, as analytics.js sends it")] = None


class Track(Message, tag="track"):
    """Somebody did something."""

    event: Annotated[str, Meta(min_length=1, max_length=512, examples=["Document Viewed"])]
    properties: Object = msgspec.field(default_factory=Raw)


class Identify(Message, tag="identify"):
    """Who somebody is; with both ids, that the anonymous one is this user."""

    traits: Object = msgspec.field(default_factory=Raw)


class Page(Message, tag="page"):
    """Somebody saw a page. Stored; touches no feature."""

    name: str | None = None
    properties: Object = msgspec.field(default_factory=Raw)


class Screen(Message, tag="screen"):
    """Somebody saw a screen. Stored; touches no feature."""

    name: str | None = None
    properties: Object = msgspec.field(default_factory=Raw)


class Group(Message, tag="group"):
    """Somebody belongs to a group. Stored; touches no feature."""

    groupId: str | int | None = None
    traits: Object = msgspec.field(default_factory=Raw)


class Alias(Message, tag="alias"):
    """Two ids are one person. Stored, never merged."""

    previousId: str | int | None = None


Call = Track | Identify | Page | Screen | Group | Alias
_WITH = {
    name: {"required": [name], "properties": {name: {"type": ["string", "integer"], "minLength": 1}}}
    for name in ("userId", "anonymousId")
}
SOMEBODY = Meta(extra_json_schema={"allOf": [{"anyOf": list(_WITH.values())}]})  # what no type says


class Batch(Struct, kw_only=True):
    """Many calls at once: good ones are stored, bad ones are reported one by one."""

    batch: list[Raw]
    sentAt: Moment = None
    writeKey: str | None = None


class BatchOfCalls(Struct, kw_only=True, rename={"calls": "batch"}):
    """Many calls at once, at most 2,500 in 500 KB: good ones are stored, bad ones are reported one by one."""

    calls: Annotated[list[Annotated[Call, SOMEBODY]], Meta(min_length=1, max_length=BATCH_EVENTS)]
    sentAt: Moment = None
    writeKey: str | None = None


class UnknownEvent(Struct):
    """An event name that the vocabulary does not have: stored and counted, and it touches no feature."""

    event: str
    nearest: Annotated[str | None, Meta(description="The known name that it most resembles")]
    count: int


class RejectedItem(Struct):
    """A call of a batch that was not stored, and why."""

    index: int
    messageId: str | None
    field: str
    detail: str


class Stored(Struct, kw_only=True, omit_defaults=True):
    """The call is on disk."""

    success: Annotated[bool, Meta(examples=[True])]
    unknown: list[UnknownEvent] = []


class BatchStored(Struct, kw_only=True):
    """`accepted` calls are on disk; each of the others is in `rejected`."""

    success: bool
    accepted: int
    rejected: list[RejectedItem]
    unknown: list[UnknownEvent]


class Problem(Struct, kw_only=True, omit_defaults=True):
    """What went wrong (RFC 9457)."""

    type: Annotated[str, Meta(examples=["about:blank"])]
    title: str
    status: int
    detail: str
    field: Annotated[str | None, Meta(description="The field that is wrong")] = None
    rejected: Annotated[list[RejectedItem], Meta(description="Of a batch: what is wrong with each call")] = []
    problems: Annotated[list[str], Meta(description="Of /readyz: each thing that is in the way")] = []


class Check(Struct):
    """All is well."""

    status: Annotated[str, Meta(examples=["ok"])] = "ok"


class FeatureValue(Struct):
    value: float | None
    unit: str
    window: str
    description: str


class UserFeatures(Struct):
    """What is known of a person, as of `at` (null: never written)."""

    user: str
    at: Moment
    features: dict[str, FeatureValue]


class Contribution(Struct):
    """How much a feature moved the score, in log odds, and in words."""

    feature: str
    value: float
    contribution: float
    says: str


class Recommended(Struct):
    """What to do, and why; `level`: of the risk, low to critical, empty where the model grades none."""

    action: str
    reason: str
    level: str


class Score(Struct):
    model: str
    version: str
    score: Annotated[float, Meta(description="Calibrated probability, 0-1")]
    raw: Annotated[float, Meta(description="Before calibration, 0-1")]
    threshold: float
    confidence: Annotated[float, Meta(description="How sure: as `POST /v1/score/{model}` tells it")]
    recommendation: Annotated[Recommended | None, Meta(description="What to do; null: nothing is said of such a score")]
    reasons: list[Contribution]
    calibration: Annotated[int, Meta(description="Number of the online calibration; 0: the version's own")] = 0


class UserScores(Struct):
    """What the models make of a person's features, as of `at`."""

    user: str
    at: Moment
    scores: list[Score]
    refused: Annotated[dict[str, str], Meta(description="Models that cannot score now, and why")]


call_decoder = msgspec.json.Decoder(Call)
batch_decoder = msgspec.json.Decoder(Batch)
