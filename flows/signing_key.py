"""The key that signs the links in messages: made once, in SQL, so that every process has the same one."""

from __future__ import annotations

import secrets

import sqlalchemy as sa

from flows import database

keys = sa.Table(
    "signing_keys",
    database.metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("key", sa.LargeBinary, nullable=False),
)
LINKS = "links"


def signing_key(engine: sa.Engine, name: str = LINKS) -> bytes:
    """32 random bytes, the same for ever after. Raises OperationalError while the database is down."""
    query = sa.select(keys.c.key).where(keys.c.name == name)
    with engine.connect() as connection:
        if found := connection.execute(query).scalar():
            return bytes(found)
    with engine.begin() as connection:
        database.one_by_one(connection)
        made = database.insert(connection, keys).values(name=name, key=secrets.token_bytes(32))
        connection.execute(made.on_conflict_do_nothing(index_elements=["name"]))
        return bytes(connection.execute(query).scalar_one())
