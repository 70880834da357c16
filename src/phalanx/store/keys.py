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


class KeyAlias(Base):
    """Another name of a key: `name` begins with `alias/`."""

    __tablename__ = "key_aliases"

    name: Mapped[str] = mapped_column(primary_key=True)
    arn: Mapped[str] = mapped_column(unique=True)
    key: Mapped[str] = mapped_column(ForeignKey("keys.id"), index=True)
    created: Mapped[int]
    updated: Mapped[int | None]
    """When it was given another key, if ever."""
