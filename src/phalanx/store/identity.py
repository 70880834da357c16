"""Access keys."""

from __future__ import annotations

from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Mapped, mapped_column

from phalanx.store.base import Base
from phalanx.store.database import Database


class AccessKey(Base):
    """An access key and the principal that it speaks for."""

    __tablename__ = "access_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    secret: Mapped[str]
    user_name: Mapped[str]
    created: Mapped[int]


# Asked with every request: made once.
_KEY = select(AccessKey.id, AccessKey.secret, AccessKey.user_name).where(AccessKey.id == bindparam("key"))


def find_key(database: Database, id: str) -> Any:
    """The access key of that id, a row of id, secret, user_name; None where there is none."""
    with database.rows() as connection:
        return connection.execute(_KEY, {"key": id}).first()
