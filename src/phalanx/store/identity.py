"""Users, roles, their access keys and sessions, and the policies that say what they may do."""

from __future__ import annotations

from sqlalchemy import ForeignKey, Index, func, select
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.orm import Session as Transaction

from phalanx.store.base import Base, Json, now_ms


class User(Base):
    """A user. `tags` are {key: value}."""

    __tablename__ = "users"

    name: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(unique=True)
    path: Mapped[str] = mapped_column(default="/")
    tags: Mapped[Json] = mapped_column(default=dict)
    created: Mapped[int] = mapped_column(default=now_ms)


class Role(Base):
    """A role. `trust` is the JSON document that says who may assume it; `longest` bounds its sessions, in seconds."""

    __tablename__ = "roles"

    name: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(unique=True)
    path: Mapped[str] = mapped_column(default="/")
    trust: Mapped[str]
    description: Mapped[str | None]
    longest: Mapped[int] = mapped_column(default=3600)
    tags: Mapped[Json] = mapped_column(default=dict)
    created: Mapped[int] = mapped_column(default=now_ms)


class AccessKey(Base):
    """An access key of a user. `secret` is sealed (phalanx.identity.seal)."""

    __tablename__ = "access_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    secret: Mapped[str]
    user_name: Mapped[str] = mapped_column(index=True)
    active: Mapped[bool] = mapped_column(default=True)
    created: Mapped[int]


class Session(Base):
    """Temporary credentials: of a role that was assumed under the name `name`, or of a user (then `name` is empty)."""

    __tablename__ = "sessions"

    id: Mapped[str] = mapped_column(primary_key=True)
    """Access key id."""
    secret: Mapped[str]
    """Sealed."""
    token: Mapped[str]
    """SHA-256 of the session token, in hex: the token itself is not kept."""
    kind: Mapped[str]
    """`user` or `role`."""
    owner: Mapped[str]
    """Name of the user or role."""
    owner_id: Mapped[str]
    """Its unique id: one that was deleted and made anew under its old name is another."""
    name: Mapped[str]
    policies: Mapped[Json | None]
    """{"documents": [...]}: JSON documents that bound the session, any of which may allow; null where nothing bounds it."""
    created: Mapped[int]
    expires: Mapped[int] = mapped_column(index=True)


class InlinePolicy(Base):
    """A policy that is part of a user or role (`kind`, `owner`)."""

    __tablename__ = "inline_policies"

    kind: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    document: Mapped[str]


class ManagedPolicy(Base):
    """A policy of the account's own. Those that AWS manages have no row (phalanx.identity.managed)."""

    __tablename__ = "managed_policies"

    arn: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str] = mapped_column(unique=True)
    path: Mapped[str] = mapped_column(default="/")
    description: Mapped[str | None]
    default_version: Mapped[int] = mapped_column(default=1)
    last_version: Mapped[int] = mapped_column(default=1)
    """The highest number that was ever given."""
    tags: Mapped[Json] = mapped_column(default=dict)
    created: Mapped[int] = mapped_column(default=now_ms)
    updated: Mapped[int] = mapped_column(default=now_ms)


class PolicyVersion(Base):
    """A version of a managed policy."""

    __tablename__ = "policy_versions"

    arn: Mapped[str] = mapped_column(ForeignKey("managed_policies.arn", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    document: Mapped[str]
    created: Mapped[int] = mapped_column(default=now_ms)


class Attachment(Base):
    """A managed policy, the account's own or one that AWS manages, attached to a user or role."""

    __tablename__ = "policy_attachments"
    __table_args__ = (Index("ix_policy_attachments_policy", "policy"),)

    kind: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(primary_key=True)
    policy: Mapped[str] = mapped_column(primary_key=True)
    """Its ARN."""
    created: Mapped[int] = mapped_column(default=now_ms)


def user_named(transaction: Transaction, name: str) -> User | None:
    """A user, whose name is found whatever its case."""
    return transaction.scalar(select(User).where(func.lower(User.name) == name.lower()))


def role_named(transaction: Transaction, name: str) -> Role | None:
    """A role that was created, whose name is found whatever its case."""
    return transaction.scalar(select(Role).where(func.lower(Role.name) == name.lower()))
