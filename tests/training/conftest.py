"""What the tests of training share."""

from __future__ import annotations

import pytest

from flows import lake


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lake by hand does not wait for more."""
    monkeypatch.setattr(lake, "WAIT_MS", 0)
