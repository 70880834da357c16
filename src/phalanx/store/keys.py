"""Keys of KMS, sealed, and their aliases: what opens them is not in the store."""

from __future__ import annotations

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from phalanx.store.base import Base


class Key(Base):
    """A symmetric key. `sealed` is its material under the root key; `data_key` a data key of its own, encrypted under it as
    GenerateDataKey answers: what jobs with this KmsKeyId write is encrypted under that."""

    __tablename__ = "keys"
    __table_args__ = (Index("ix_keys_created", "created", "id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    arn: Mapped[str] = mapped_column(unique=True)
    description: Mapped[str]
    enabled: Mapped[bool]
    sealed: Mapped[bytes]
    data_key: Mapped[bytes]
    created: Mapped[int]
    deletion: Mapped[int | None]
    """When it is to be deleted (ScheduleKeyDeletion); from then on there is no such key."""
    policy: Mapped[str | None]
    """The document that it was given; null for KMS's own. What it says is always the same (services.kms.policies)."""
    rotation_days: Mapped[int | None]
    """How many days lie between two rotations that nobody asks for; null where there is none."""
    rotates: Mapped[int | None]
    """When the next of them is due."""


class KeyRotation(Base):
    """A rotation of a key, the first is 1; `sealed` and `data_key` are what the key had until then: they encrypt no more, and
    open what was encrypted with them for as long as the key itself may."""

    __tablename__ = "key_rotations"

    key: Mapped[str] = mapped_column(ForeignKey("keys.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    rotated: Mapped[int]
    on_demand: Mapped[bool]
    sealed: Mapped[bytes]
    data_key: Mapped[bytes]


class KeyAlias(Base):
    """Another name of a key: `name` begins with `alias/`."""

    __tablename__ = "key_aliases"

    name: Mapped[str] = mapped_column(primary_key=True)
    arn: Mapped[str] = mapped_column(unique=True)
    key: Mapped[str] = mapped_column(ForeignKey("keys.id"), index=True)
    created: Mapped[int]
    updated: Mapped[int | None]
    """When it was given another key, if ever."""
