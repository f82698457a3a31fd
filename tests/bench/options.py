"""How a benchmark is run."""

from __future__ import annotations

import msgspec


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """`seconds` is the length of one run; 0: as long as the bench thinks right."""

    runs: int = 3
    seconds: float = 0.0
