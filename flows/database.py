"""The SQL database behind alerts, outcomes and delivery: SQLite beside the data, or PostgreSQL."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

WRITERS = 7_454_001  # PostgreSQL's advisory lock: writers commit one after another, so numbers grow as they commit
SQL_DOWN = (sa.exc.OperationalError, sa.exc.InterfaceError)  # not there now, or busy: try again
LOCK_PATIENCE = 0.5  # seconds that SQLite waits for another writer

metadata = sa.MetaData()  # of all tables; a process makes those of the modules that it imports


def number() -> sa.Column[int]:
    """The column `seq`: grows in the order of the commits of those who write `one_by_one`."""
    return sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True)


def engine(url: str, patience: float = LOCK_PATIENCE) -> sa.Engine:
    """SQLite's is durable: a commit is on disk when it returns, and readers never wait for the writer.

    `patience`: seconds that it waits for another writer; for a process that has to end quickly, not long.
    """
    if not url.startswith("sqlite"):
        return sa.create_engine(url, pool_pre_ping=True)
    made = sa.create_engine(url, connect_args={"timeout": patience, "check_same_thread": False})
    sa.event.listen(made, "connect", _durable)
    return made


def create(made: sa.Engine) -> None:
    """Makes the tables, columns and indexes that lack; several processes may do so at once.

    A column that is added to a table with rows has a `server_default`, which those rows get. `info["fill"]` of a column
    or a table is called with the connection after it was made, to fill it from what is there.
    """
    with _alone(made.url), made.begin() as connection:
        one_by_one(connection)
        there = set(sa.inspect(connection).get_table_names())
        metadata.create_all(connection)
        for table in metadata.sorted_tables:
            if table.name in there:
                _bring_up(connection, table)
        for table in metadata.sorted_tables:
            if table.name not in there:
                table.info.get("fill", _nothing)(connection)


def one_by_one(connection: sa.Connection) -> None:
    """Waits for other writers. Until this transaction ends none writes, so what it reads stays true."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(WRITERS)))
    elif not connection.connection.driver_connection.in_transaction:  # type: ignore[union-attr]  # it is open
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def insert(connection: sa.Connection, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
    """An insert that can say what happens on conflict."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


def _nothing(_: sa.Connection) -> None:
    """What most need to be filled with."""


def _bring_up(connection: sa.Connection, table: sa.Table) -> None:
    """A table of an earlier version gets the columns and indexes that came since."""
    look = sa.inspect(connection)
    known = {column["name"] for column in look.get_columns(table.name)}
    for column in table.columns:
        if column.name not in known:
            told = sa.schema.CreateColumn(column).compile(dialect=connection.dialect)
            connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {told}")
            column.info.get("fill", _nothing)(connection)
    there = {index["name"] for index in look.get_indexes(table.name)}
    for index in table.indexes:
        if index.name not in there:
            index.create(connection)


@contextmanager
def _alone(url: sa.URL) -> Iterator[None]:
    """Holds SQLite's directory: switching a new file to WAL does not wait for others that do so, it fails."""
    place = Path(url.database or "").parent
    if url.get_backend_name() != "sqlite" or not place.is_dir():
        yield
        return
    handle = os.open(place, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _durable(connection: Any, _: Any) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
