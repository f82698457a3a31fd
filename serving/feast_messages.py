"""What Feast's clients ask when they read, and what they are told."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta


class FeaturesRequest(msgspec.Struct):
    """The body of `POST /get-online-features`, as Feast's clients send it."""

    entities: Annotated[
        dict[str, list[str | int | float | bool | None]],
        Meta(
            description="By join key (or entity): the values, as many of each",
            examples=[{"user_id": ["ada", "bob"]}],
        ),
    ]
    features: Annotated[
        msgspec.Raw,
        Meta(
            description="`view:feature`; not needed with a feature_service",
            examples=[["user_features:session_count_30d"]],
            extra_json_schema={"type": "array", "items": {"type": "string"}},
        ),
    ] = msgspec.field(default_factory=lambda: msgspec.Raw(b"[]"))
    feature_service: Annotated[str | None, Meta(description="A model's inputs, in order")] = None
    full_feature_names: Annotated[bool, Meta(description="Name results `view__feature`")] = False
    include_feature_view_version_metadata: bool = False


class Result(msgspec.Struct):
    """One column: of each entity the value, its status, and when it held (1970: never, or an entity's own value)."""

    values: list[str | float | bool | None]
    statuses: list[Literal["PRESENT", "NOT_FOUND", "OUTSIDE_MAX_AGE"]]
    event_timestamps: list[datetime]


class ViewMetadata(msgspec.Struct):
    """A view that was read; ours have no versions."""

    name: str


class Metadata(msgspec.Struct, omit_defaults=True):
    """Whose column each result is: the entities' first, then features as asked."""

    feature_names: list[str]
    feature_view_metadata: list[ViewMetadata] = []


class OnlineFeatures(msgspec.Struct):
    """Features as they stand now."""

    metadata: Metadata
    results: list[Result]
