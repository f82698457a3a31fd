"""A lake made row by row, for what is hard to bring about through the door."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from flows.lake_rows import SCHEMA

T0 = 1_700_000_000_000


def made_lake(home: Path, *rows: dict[str, Any]) -> Path:
    """One file of these rows of organisation `main`, each logged at `at` ms after T0; a row without `mid` gets one."""
    logged = [T0 + row["at"] for row in rows]
    filled = [
        {"organisation": "main", "partition": 0, "index": 0, "mid": i, "type": "track", "history": False}
        | {"entry_id": f"{now}-{i}", "ts": now, "logged_at": now}
        | {name: value for name, value in row.items() if name != "at"}
        for i, (now, row) in enumerate(zip(logged, rows, strict=True), 1)
    ]
    columns = [pa.array([row.get(field.name) for row in filled]) for field in SCHEMA]
    made = [
        pa.nulls(len(rows), field.type) if pa.types.is_null(column.type) else column.cast(field.type)
        for column, field in zip(columns, SCHEMA, strict=True)
    ]
    place = home / "lake" / "events" / "date=2023-11-14"
    place.mkdir(parents=True)
    path = place / f"0-{logged[0]}-1-{logged[-1]}-{len(rows)}.parquet"
    pyarrow.parquet.write_table(pa.table(made, schema=SCHEMA), path)
    return home / "lake"
