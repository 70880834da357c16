"""Who is behind an access key, with all that is allowed to them: read and compiled once, until something changes.

A count of changes in memory tells when what was read is out of date: the process's own, and those of other replicas, which tell
of them. While they cannot be heard, nothing is kept in mind.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.orm import Session as Transaction

from phalanx.identity import managed, names, unmanaged
from phalanx.identity.policy import Policies
from phalanx.identity.seal import Seal
from phalanx.store.base import Json
from phalanx.store.database import Database
from phalanx.store.identity import (
    AccessKey,
    Attachment,
    InlinePolicy,
    ManagedPolicy,
    PolicyVersion,
    Role,
    Session,
    User,
    role_named,
)
from phalanx.wire.sigv4 import Principal

CHANGED = "identities"
"""What replicas are told of a change."""
_CACHED = 4096
"""Access keys that are kept in mind."""
_KEY = re.compile(r"[A-Za-z0-9]{1,128}")


@dataclass(frozen=True, slots=True)
class Identity:
    """A principal. Every one of `bounds` has to allow what it does: its own policies, and those that bound its session.

    `kind` is user or role; `name` the user's or role's; `session` whether its credentials are temporary, begun at `begun`.
    """

    principal: Principal
    kind: str
    name: str
    arn: str
    """Of the user or role itself."""
    administrator: bool
    bounds: tuple[Policies, ...]
    tags: Json
    owner_id: str
    session: bool
    begun: datetime | None


class Directory:
    """The identities of a store, by access key."""

    def __init__(
        self,
        database: Database,
        seal: Seal,
        account: str,
        fresh: Callable[[], bool] = lambda: True,
        *,
        require_roles: bool = False,
    ) -> None:
        """`fresh`: whether the changes of other replicas are heard; `require_roles`: no role exists that nobody created."""
        self.database = database
        self._require_roles = require_roles
        self._fresh = fresh
        self.seal = seal
        self.account = account
        self._lock = threading.Lock()
        self._changes = 0
        self._known: OrderedDict[str, Identity] = OrderedDict()
        self._trusts: dict[str, str | None] = {}

    def changed(self) -> None:
        """Something of users, roles, keys, sessions or policies was changed, and is committed."""
        with self._lock:
            self._changes += 1
            self._known.clear()
            self._trusts.clear()

    @contextlib.contextmanager
    def write(self) -> Iterator[Transaction]:
        """A transaction that may change who is who and may do what."""
        try:
            with self.database.write(tell=CHANGED) as transaction:
                yield transaction
        finally:
            self.changed()

    def find(self, access_key: str) -> Identity | None:
        """Whom an active access key speaks for. Raises seal.Broken."""
        known = self._known.get(access_key)
        if known is not None and self._fresh():
            return known
        if not _KEY.fullmatch(access_key):
            return None
        before = self._changes
        with self.database.read() as transaction:
            found = self._read(transaction, access_key)
        if found is not None:
            with self._lock:
                if self._changes == before:
                    self._known[access_key] = found
                    if len(self._known) > _CACHED:
                        self._known.popitem(last=False)
        return found

    def unmanaged(self, transaction: Transaction, name: str) -> bool:
        """Whether a role exists although nobody created it."""
        return not self._require_roles and unmanaged.exists(transaction, name)

    def principal(self, access_key: str) -> Principal | None:
        """What verifying a signature needs of it (sigv4.KeyLookup)."""
        found = self.find(access_key)
        return None if found is None else found.principal

    def trust(self, arn: str) -> str | None:
        """The trust policy of a role, by its ARN; None where there is no such role."""
        if arn in self._trusts and self._fresh():
            return self._trusts[arn]
        before = self._changes
        with self.database.read() as transaction:
            name = arn.rpartition("/")[2]
            role = role_named(transaction, name)
            if role is not None:
                found = role.trust if names.role_arn(self.account, role) == arn else None
            else:
                found = json.dumps(unmanaged.TRUST) if self.unmanaged(transaction, name) else None
        with self._lock:
            if self._changes == before and len(self._trusts) < _CACHED:
                self._trusts[arn] = found
        return found

    def _read(self, transaction: Transaction, access_key: str) -> Identity | None:
        if access_key.startswith("ASIA"):
            return self._session(transaction, access_key)
        key = transaction.get(AccessKey, access_key)
        if key is not None and key.user_name == names.PLATFORM:
            return self._platform(key)
        user = None if key is None or not key.active else transaction.get(User, key.user_name)
        if key is None or user is None:
            return None
        arn = names.user_arn(self.account, user)
        principal = Principal(self.seal.open(key.secret, key.id), arn, user.id)
        return self._of_user(transaction, user, principal)

    def _platform(self, key: AccessKey) -> Identity:
        """As a role that belongs to the service, which AWS calls service-linked: it reaches S3, and nothing else."""
        role = "AWSServiceRoleForSageMaker"
        arn = f"arn:{names.PARTITION}:sts::{self.account}:assumed-role/{role}/{names.SESSION}"
        return Identity(
            Principal(self.seal.open(key.secret, key.id), arn, f"{key.id}:{names.SESSION}"),
            kind="role",
            name=role,
            arn=f"arn:{names.PARTITION}:iam::{self.account}:role/aws-service-role/sagemaker.amazonaws.com/{role}",
            administrator=False,
            bounds=(Policies([("AmazonS3FullAccess", managed.POLICIES[managed.S3_FULL_ACCESS])]),),
            tags={},
            owner_id=key.id,
            session=True,
            begun=_moment(key.created),
        )

    def _of_user(self, transaction: Transaction, user: User, principal: Principal, session: Session | None = None) -> Identity:
        return Identity(
            principal,
            kind="user",
            name=user.name,
            arn=names.user_arn(self.account, user),
            administrator=user.name == names.ADMINISTRATOR,
            bounds=(Policies(documents(transaction, "user", user.name)),),
            tags=user.tags,
            owner_id=user.id,
            session=session is not None,
            begun=None if session is None else _moment(session.created),
        )

    def _session(self, transaction: Transaction, access_key: str) -> Identity | None:
        row = transaction.get(Session, access_key)
        if row is None:
            return None
        secret, expires = self.seal.open(row.secret, row.id), _moment(row.expires)
        if row.kind == "user":
            user = transaction.get(User, row.owner)
            if user is None or user.id != row.owner_id:
                return None
            principal = Principal(secret, names.user_arn(self.account, user), user.id, row.token, expires)
            return self._of_user(transaction, user, principal, row)
        role = transaction.get(Role, row.owner)
        if role is None or role.id != row.owner_id:
            return None
        arn = f"arn:{names.PARTITION}:sts::{self.account}:assumed-role/{role.name}/{row.name}"
        principal = Principal(secret, arn, f"{role.id}:{row.name}", row.token, expires)
        bounds = [Policies(documents(transaction, "role", role.name))]
        if row.policies is not None:
            bounds.append(Policies((f"session-{number}", text) for number, text in enumerate(row.policies["documents"])))
        return Identity(
            principal,
            kind="role",
            name=role.name,
            arn=names.role_arn(self.account, role),
            administrator=False,
            bounds=tuple(bounds),
            tags=role.tags,
            owner_id=role.id,
            session=True,
            begun=_moment(row.created),
        )


def documents(transaction: Transaction, kind: str, owner: str) -> Sequence[tuple[str, str]]:
    """The policies of a user or role, inline and attached: the name of each, and its document."""
    inline = select(InlinePolicy.name, InlinePolicy.document).filter_by(kind=kind, owner=owner).order_by(InlinePolicy.name)
    found = [(f"{kind}_{owner}_{name}", text) for name, text in transaction.execute(inline)]
    attached = select(Attachment.policy).filter_by(kind=kind, owner=owner).order_by(Attachment.policy)
    for arn in transaction.scalars(attached):
        text = document(transaction, arn)
        if text is not None:
            found.append((arn.rpartition("/")[2], text))
    return found


def document(transaction: Transaction, arn: str) -> str | None:
    """The document in force of a managed policy; None where there is none of that ARN."""
    if arn in managed.POLICIES:
        return managed.POLICIES[arn]
    statement = (
        select(PolicyVersion.document)
        .join(ManagedPolicy, ManagedPolicy.arn == PolicyVersion.arn)
        .where(ManagedPolicy.arn == arn, PolicyVersion.number == ManagedPolicy.default_version)
    )
    return transaction.scalar(statement)


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
