"""An empty store of alerts over each database: all that holds for one holds for the other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.alert_store import AlertStore
from flows.database import metadata

POSTGRESQL = os.environ.get("TEST_POSTGRESQL", "")  # postgresql+psycopg://... of a database that may be emptied
needs_postgresql = pytest.mark.skipif(not POSTGRESQL, reason="TEST_POSTGRESQL names no database")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=needs_postgresql)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AlertStore]:
    url = POSTGRESQL if request.param == "postgresql" else f"sqlite:///{tmp_path / 'alerts.db'}"
    opened = AlertStore(url, patience=20.0)  # threads of tests may be many on a busy machine
    opened.create()
    yield opened
    metadata.drop_all(opened.engine)
    opened.close()
