"""Managed policies, the account's own and those that AWS manages, and their versions."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from phalanx.identity import managed, names
from phalanx.services.iam.entities import checked, conflict, no_such, page, quoted, tag_list, tags_of
from phalanx.services.times import whole_second
from phalanx.store.base import now_ms
from phalanx.store.identity import Attachment, ManagedPolicy, PolicyVersion
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Caller, Members

CHARACTERS = 6144
"""Most that a managed policy has, without white space."""
VERSIONS = 5
"""Most versions of a managed policy that are kept."""
_AWS_SINCE = 1_420_070_400_000


def find_policy(session: Session, arn: str) -> str:
    """The ARN of a managed policy that exists. Raises NoSuchEntity."""
    if arn not in managed.POLICIES and session.get(ManagedPolicy, arn) is None:
        raise no_such(f"Policy {arn[:256]} does not exist or is not attachable: it")
    return arn


def create_policy(session: Session, caller: Caller, members: Members) -> Members:
    """A new managed policy, whose first version is in force."""
    name, path = members["PolicyName"], members.get("Path", "/")
    text = checked(members["PolicyDocument"], "identity", CHARACTERS, f"policy {name}")
    if session.scalar(select(ManagedPolicy.arn).where(func.lower(ManagedPolicy.name) == name.lower())) is not None:
        raise AwsError("EntityAlreadyExists", f"A policy called {name} already exists. Duplicate names are not allowed.", 409)
    arn = f"arn:{names.PARTITION}:iam::{caller.account}:policy{path}{name}"
    row = ManagedPolicy(
        arn=arn,
        id=names.unique_id("ANPA"),
        name=name,
        path=path,
        description=members.get("Description"),
        tags=tags_of(members),
    )
    session.add(row)
    session.flush()
    session.add(PolicyVersion(arn=arn, number=1, document=text))
    return {"Policy": _shown(session, row)}


def get_policy(session: Session, _: Caller, members: Members) -> Members:
    """A managed policy."""
    arn = members["PolicyArn"]
    if arn in managed.POLICIES:
        return {"Policy": _shown_of_aws(session, arn)}
    return {"Policy": _shown(session, own(session, arn))}


def list_policies(session: Session, _: Caller, members: Members) -> Members:
    """Managed policies by their scope (All, AWS, Local), path, and whether they are attached."""
    scope, prefix = members.get("Scope", "All"), members.get("PathPrefix", "/")
    found: list[Members] = []
    if scope in ("All", "AWS"):
        found += [_shown_of_aws(session, arn) for arn in managed.POLICIES]
    if scope in ("All", "Local"):
        found += [_shown(session, row) for row in session.scalars(select(ManagedPolicy))]
    shown = [
        (each["Arn"], {name: value for name, value in each.items() if name not in ("Description", "Tags")})
        for each in found
        if each["Path"].startswith(prefix) and (each["AttachmentCount"] or not members.get("OnlyAttached"))
    ]
    # No policy is used as a boundary.
    return page("Policies", [] if members.get("PolicyUsageFilter") == "PermissionsBoundary" else shown, members)


def delete_policy(session: Session, _: Caller, members: Members) -> Members:
    """Delete a policy that is attached to nobody and has no versions but the one in force."""
    row = own(session, members["PolicyArn"])
    if _attachments(session, row.arn):
        raise conflict("Cannot delete a policy attached to entities.")
    if len(_versions(session, row.arn)) > 1:
        raise conflict(
            "This policy has more than one version. Before you delete a policy, you must delete the policy's versions."
        )
    session.delete(row)
    return {}


def create_policy_version(session: Session, _: Caller, members: Members) -> Members:
    """A new version, in force at once where the request says so."""
    row = own(session, members["PolicyArn"])
    text = checked(members["PolicyDocument"], "identity", CHARACTERS, f"policy {row.name}")
    if len(_versions(session, row.arn)) >= VERSIONS:
        raise AwsError(
            "LimitExceeded",
            f"A managed policy can have up to {VERSIONS} versions. Before you create a new version, you must delete an existing"
            " version.",
            409,
        )
    row.last_version += 1
    row.updated = now_ms()
    if members.get("SetAsDefault"):
        row.default_version = row.last_version
    version = PolicyVersion(arn=row.arn, number=row.last_version, document=text, created=row.updated)
    session.add(version)
    shown = _shown_version(version, row.default_version)
    return {"PolicyVersion": {name: value for name, value in shown.items() if name != "Document"}}


def get_policy_version(session: Session, _: Caller, members: Members) -> Members:
    """A version with its document."""
    arn = members["PolicyArn"]
    if arn in managed.POLICIES:
        if members["VersionId"] != "v1":
            raise _no_version(arn, members["VersionId"])
        return {"PolicyVersion": _version_of_aws(arn)}
    row = own(session, arn)
    return {"PolicyVersion": _shown_version(_version(session, row, members["VersionId"]), row.default_version)}


def list_policy_versions(session: Session, _: Caller, members: Members) -> Members:
    """The versions of a policy, without their documents."""
    arn = members["PolicyArn"]
    if arn in managed.POLICIES:
        found = [_version_of_aws(arn)]
    else:
        row = own(session, arn)
        found = [_shown_version(each, row.default_version) for each in _versions(session, arn)]
    shown = [
        (f"{int(each['VersionId'][1:]):09}", {name: value for name, value in each.items() if name != "Document"})
        for each in found
    ]
    return page("Versions", shown, members)


def delete_policy_version(session: Session, _: Caller, members: Members) -> Members:
    """Delete a version that is not in force."""
    row = own(session, members["PolicyArn"])
    version = _version(session, row, members["VersionId"])
    if version.number == row.default_version:
        raise conflict("Cannot delete the default version of a policy.")
    session.delete(version)
    return {}


def set_default_policy_version(session: Session, _: Caller, members: Members) -> Members:
    """Put a version in force."""
    row = own(session, members["PolicyArn"])
    row.default_version = _version(session, row, members["VersionId"]).number
    row.updated = now_ms()
    return {}


def own(session: Session, arn: str) -> ManagedPolicy:
    """A policy of the account's own, which may be changed. Raises NoSuchEntity, AccessDenied."""
    if arn in managed.POLICIES:
        raise AwsError("AccessDenied", f"Policy {arn} is managed by AWS, and cannot be changed.", 403)
    row = session.get(ManagedPolicy, arn)
    if row is None:
        raise no_such(f"Policy {arn[:256]}")
    return row


def _version(session: Session, row: ManagedPolicy, id: str) -> PolicyVersion:
    number = id[1:].partition(".")[0]
    found = session.get(PolicyVersion, (row.arn, int(number))) if len(number) < 10 else None
    if found is None:
        raise _no_version(row.arn, id)
    return found


def _no_version(arn: str, id: str) -> AwsError:
    return no_such(f"Policy {arn} version {id[:32]}")


def _versions(session: Session, arn: str) -> list[PolicyVersion]:
    return list(session.scalars(select(PolicyVersion).filter_by(arn=arn).order_by(PolicyVersion.number)))


def _attachments(session: Session, arn: str) -> int:
    return session.scalar(select(func.count()).select_from(Attachment).filter_by(policy=arn)) or 0


def _shown(session: Session, row: ManagedPolicy) -> Members:
    return {
        "PolicyName": row.name,
        "PolicyId": row.id,
        "Arn": row.arn,
        "Path": row.path,
        "DefaultVersionId": f"v{row.default_version}",
        "AttachmentCount": _attachments(session, row.arn),
        "PermissionsBoundaryUsageCount": 0,
        "IsAttachable": True,
        "Description": row.description,
        "CreateDate": whole_second(row.created),
        "UpdateDate": whole_second(row.updated),
        **({"Tags": tag_list(row.tags)} if row.tags else {}),
    }


def _shown_of_aws(session: Session, arn: str) -> Members:
    name = arn.rpartition("/")[2]
    return {
        "PolicyName": name,
        "PolicyId": f"ANPA{name.upper()[:17]:A<17}",
        "Arn": arn,
        "Path": "/",
        "DefaultVersionId": "v1",
        "AttachmentCount": _attachments(session, arn),
        "PermissionsBoundaryUsageCount": 0,
        "IsAttachable": True,
        "CreateDate": whole_second(_AWS_SINCE),
        "UpdateDate": whole_second(_AWS_SINCE),
    }


def _shown_version(version: PolicyVersion, default: int) -> Members:
    return {
        "Document": quoted(version.document),
        "VersionId": f"v{version.number}",
        "IsDefaultVersion": version.number == default,
        "CreateDate": whole_second(version.created),
    }


def _version_of_aws(arn: str) -> Members:
    return {
        "Document": quoted(managed.POLICIES[arn]),
        "VersionId": "v1",
        "IsDefaultVersion": True,
        "CreateDate": whole_second(_AWS_SINCE),
    }
