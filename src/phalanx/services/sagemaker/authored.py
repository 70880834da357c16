"""What experiments, trials and trial components have in common: a name of their own, and who made and changed them when."""

from __future__ import annotations

from typing import Any, TypeVar

from sqlalchemy.orm import Session

from phalanx.services.sagemaker.errors import no_such
from phalanx.services.times import moment
from phalanx.store.base import Json, now_ms
from phalanx.store.experiments import Authored
from phalanx.store.lineage import Artifact
from phalanx.wire.service import Caller, Members

Row = TypeVar("Row", bound=Authored)


def find(session: Session, kind: type[Row], name: str) -> Row:
    """The resource of that kind and name. Raises ResourceNotFound."""
    row = session.get(kind, name)
    if row is None:
        raise no_such(kind.__name__, name)
    return row


def made(caller: Caller) -> dict[str, Any]:
    """The columns of something that the caller makes now."""
    now, user = now_ms(), _user_context(caller)
    return {"created": now, "created_by": user, "modified": now, "modified_by": user}


def touch(row: Authored | Artifact, caller: Caller) -> None:
    """Put down that the caller changes it now."""
    row.modified, row.modified_by = now_ms(), _user_context(caller)


def summary(noun: str, row: Any) -> Members:
    """What lists show of a resource, or of a row with its columns; `noun` is what its members are called by."""
    return {
        f"{noun}Name": row.name,
        f"{noun}Arn": row.arn,
        "DisplayName": row.display_name,
        "CreationTime": moment(row.created),
        "LastModifiedTime": moment(row.modified),
    }


def described(noun: str, row: Authored) -> Members:
    """What Describe operations show of it."""
    return {**summary(noun, row), "CreatedBy": row.created_by, "LastModifiedBy": row.modified_by}


def _user_context(caller: Caller) -> Json:
    return {"IamIdentity": {"Arn": caller.arn, "PrincipalId": caller.user_id}}
