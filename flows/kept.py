"""What organisations tell us to keep (recipients, routing rules, CRM targets): a document a row, in SQL."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from typing import Generic, Protocol, TypeVar

import msgspec
import sqlalchemy as sa

from flows import database


class Document(Protocol):
    """What can be kept: a Struct with these two."""

    @property
    def id(self) -> str: ...
    @property
    def organisation(self) -> str: ...


T = TypeVar("T", bound=Document)


def table(name: str) -> sa.Table:
    """One kind's."""
    return sa.Table(
        name,
        database.metadata,
        database.number(),
        sa.Column("id", sa.String(64), nullable=False, unique=True),
        sa.Column("organisation", sa.Text, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.Index(f"{name}_by_organisation", "organisation", "seq"),
    )


def new_id(prefix: str) -> str:
    """Nobody guesses it: 96 random bits."""
    return f"{prefix}_{secrets.token_hex(12)}"


class Kept(Generic[T]):
    """The documents of one kind. All is read and written on the caller's connection, in its transaction."""

    def __init__(self, rows: sa.Table, kind: type[T]) -> None:
        self.rows = rows
        self._decode = msgspec.json.Decoder(kind).decode

    def add(self, connection: sa.Connection, new: T) -> None:
        row = {"id": new.id, "organisation": new.organisation, "document": _text(new)}
        connection.execute(self.rows.insert(), row)

    def all(self, connection: sa.Connection, organisation: str) -> list[T]:
        """In the order in which they were made."""
        mine = self.rows.c.organisation == organisation
        found = connection.execute(sa.select(self.rows.c.document).where(mine).order_by(self.rows.c.seq))
        return [self._decode(text) for text in found.scalars()]

    def of(self, connection: sa.Connection, organisations: Iterable[str]) -> dict[str, list[T]]:
        """The same of several organisations at once."""
        found: dict[str, list[T]] = {organisation: [] for organisation in organisations}
        theirs = self.rows.c.organisation.in_(found)
        for text in connection.execute(
            sa.select(self.rows.c.document).where(theirs).order_by(self.rows.c.seq)
        ).scalars():
            one = self._decode(text)
            found[one.organisation].append(one)
        return found

    def of_ids(self, connection: sa.Connection, ids: Iterable[str]) -> list[T]:
        """Whosever they are, at most a few hundred."""
        query = sa.select(self.rows.c.document).where(self.rows.c.id.in_(list(ids)))
        return [self._decode(text) for text in connection.execute(query).scalars()]

    def find(self, connection: sa.Connection, organisation: str, id_: str) -> T | None:
        query = sa.select(self.rows.c.document).where(*self._mine(organisation, id_))
        text = connection.execute(query).scalar()
        return None if text is None else self._decode(text)

    def count(self, connection: sa.Connection, organisation: str) -> int:
        query = sa.select(sa.func.count()).where(self.rows.c.organisation == organisation)
        return connection.execute(query).scalar() or 0

    def change(self, connection: sa.Connection, organisation: str, id_: str, how: Callable[[T], T]) -> T | None:
        """As `how` makes it out of what stands; None where there is none. Others wait until the transaction ends."""
        database.one_by_one(connection)
        found = self.find(connection, organisation, id_)
        if found is None:
            return None
        changed = how(found)
        connection.execute(self.rows.update().where(*self._mine(organisation, id_)).values(document=_text(changed)))
        return changed

    def remove(self, connection: sa.Connection, organisation: str, id_: str) -> bool:
        """Whether there was one."""
        return bool(connection.execute(self.rows.delete().where(*self._mine(organisation, id_))).rowcount)

    def _mine(self, organisation: str, id_: str) -> tuple[sa.ColumnElement[bool], ...]:
        return self.rows.c.organisation == organisation, self.rows.c.id == id_


def _text(document: Document) -> str:
    return msgspec.json.encode(document).decode()
