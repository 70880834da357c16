"""Access keys."""

from __future__ import annotations

from sqlalchemy.orm import Mapped, mapped_column

from phalanx.store.base import Base


class AccessKey(Base):
    """An access key and the principal that it speaks for."""

    __tablename__ = "access_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    secret: Mapped[str]
    user_name: Mapped[str]
    created: Mapped[int]
