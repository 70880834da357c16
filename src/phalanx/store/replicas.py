"""What the replicas of a control plane have in common besides what users see."""

from __future__ import annotations

from sqlalchemy.orm import Mapped, mapped_column

from phalanx.store.base import Base


class Leader(Base):
    """The one row says which replica leads: whoever takes the lead counts `term` up, and every earlier one is deposed by it.

    `sessions` is what PostgreSQL calls its sessions. `place` is where its data directory is: what lies there is as much part of
    the service as the database is.
    """

    __tablename__ = "leader"

    id: Mapped[int] = mapped_column(primary_key=True)
    term: Mapped[int]
    place: Mapped[str]
    sessions: Mapped[str]


class Document(Base):
    """A text that one part of the service keeps under a name of its own."""

    __tablename__ = "documents"

    name: Mapped[str] = mapped_column(primary_key=True)
    content: Mapped[str]


class UsedSignature(Base):
    """A request's signature that was used, and when, in milliseconds of the database's clock."""

    __tablename__ = "used_signatures"

    signature: Mapped[str] = mapped_column(primary_key=True)
    used: Mapped[int] = mapped_column(index=True)
