"""What a fault of the laboratory found."""

from __future__ import annotations

import msgspec


class Found(msgspec.Struct, kw_only=True):
    """`runs`: how often the fault was made; `events`: that went in; seconds until all was well again."""

    runs: int
    events: int = 0
    lost: int = 0
    doubled: int = 0
    phantom: int = 0
    recovery_s: list[float] = []
    notes: dict[str, float | str] = {}
