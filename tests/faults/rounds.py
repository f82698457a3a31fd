"""How often each fault happens: a few times in `make test`, `KILLS` times in `make faults`."""

from __future__ import annotations

import os

ALL = "KILLS" in os.environ
KILLS = int(os.environ.get("KILLS", "5"))
