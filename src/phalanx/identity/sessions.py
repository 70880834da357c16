"""Temporary credentials: how a session of a user or role begins."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy import delete
from sqlalchemy.orm import Session as Transaction

from phalanx.identity import names
from phalanx.identity.seal import Seal
from phalanx.store.base import DAY_MS, Json, now_ms
from phalanx.store.identity import Session

KEPT_MS = DAY_MS
"""How long a session is remembered after it has ended, so that its user is told that it has expired."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a session's requests are signed with, until it `expires`."""

    id: str
    secret: str = field(repr=False)
    token: str = field(repr=False)
    expires: datetime


def begin(
    transaction: Transaction,
    seal: Seal,
    kind: str,
    owner: str,
    owner_id: str,
    name: str,
    seconds: int,
    policies: Json | None = None,
) -> Credentials:
    """Store a session of `seconds` (store.identity.Session), and forget those that ended long ago."""
    id, secret, token, now = names.access_key_id("ASIA"), names.secret_key(), secrets.token_urlsafe(120), now_ms()
    expires = now // 1000 * 1000 + seconds * 1000
    transaction.execute(delete(Session).where(Session.expires < now - KEPT_MS))
    transaction.add(
        Session(
            id=id,
            secret=seal.close(secret, id),
            token=hashlib.sha256(token.encode()).hexdigest(),
            kind=kind,
            owner=owner,
            owner_id=owner_id,
            name=name,
            policies=policies,
            created=now,
            expires=expires,
        )
    )
    return Credentials(id, secret, token, datetime.fromtimestamp(expires / 1000, UTC))
