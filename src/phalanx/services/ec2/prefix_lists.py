"""Managed prefix lists: create, describe, modify, restore, delete; who refers to them.

The operations that change entries return the ids of the VPCs as well whose rules must be enforced anew after the commit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import delete, exists, select
from sqlalchemy.orm import Session

from phalanx.jobs.interfaces import OF_S3
from phalanx.services.ec2 import endpoint_services, quota, tags
from phalanx.services.ec2.cidr import parse_v4, parse_v6
from phalanx.services.ec2.errors import dependency_violation, invalid_combination, invalid_parameter, missing_parameter, refuse
from phalanx.services.ec2.listing import listed
from phalanx.services.ec2.lookup import find, find_all
from phalanx.services.ec2.query import Filters, matching, page
from phalanx.store.network import PrefixList, PrefixListEntry, Route, RouteTable, SecurityGroup, SecurityGroupRule
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Caller, Members

MAX_ENTRIES = 1000
"""Entries that one list may have (Amazon VPC quotas)."""
FAMILIES = {"IPv4": parse_v4, "IPv6": parse_v6}
"""The address families, and what reads a block of each."""
_AWS = "AWS"
_RESERVED = "com.amazonaws"
"""What the names of AWS's own lists begin with, and no other's."""


def known(session: Session, caller: Caller, list_id: str) -> PrefixList:
    """The prefix list of that id, the account's own or AWS's. Raises AwsError InvalidPrefixListID.NotFound."""
    for managed in _managed_by_aws(caller.region):
        if managed.id == list_id:
            return managed
    return find(session, PrefixList, list_id)


def of_service(name: str) -> PrefixList:
    """AWS's prefix list for the gateway endpoints of a service, which has no row of its own.

    Its one entry, the address that S3 has in every VPC, is not stored either.
    """
    list_id = f"pl-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return PrefixList(id=list_id, name=name, family="IPv4", max_entries=1, version=1, state="create-complete", created=0)


def create_managed_prefix_list(session: Session, caller: Caller, request: Members) -> Members:
    """CreateManagedPrefixList. Raises AwsError InvalidParameterValue, PrefixListMaxEntriesExceeded."""
    name, family, size = request["PrefixListName"], request["AddressFamily"], request["MaxEntries"]
    _check_name(name)
    if family not in FAMILIES:
        raise invalid_parameter(f"Value ({family}) for parameter addressFamily is invalid. It must be IPv4 or IPv6.")
    _check_size(size)
    asked = tags.requested(request, PrefixList)
    entries = _entries(family, request.get("Entries", []))
    if len(entries) > size:
        raise _full(size)
    made = PrefixList(name=name, family=family, max_entries=size)
    session.add(made)
    session.flush()
    session.add_all(_entry(made, cidr, description, 1) for cidr, description in entries.items())
    tags.attach(session, made.id, asked)
    return {"PrefixList": _described(made, caller, asked)}


def describe_managed_prefix_lists(session: Session, caller: Caller, request: Members) -> Members:
    """DescribeManagedPrefixLists. Raises AwsError InvalidPrefixListID.NotFound, InvalidParameterValue."""
    filters: Filters[PrefixList] = {
        "owner-id": lambda row: (_owner(row, caller),),
        "prefix-list-id": lambda row: (row.id,),
        "prefix-list-name": lambda row: (row.name,),
    }
    rows = _selected(session, caller, request)
    described, more = listed(session, caller, request, PrefixList, "PrefixListIds", filters, _described, rows=rows, minimum=1)
    return {"PrefixLists": described, **more}


def describe_prefix_lists(session: Session, caller: Caller, request: Members) -> Members:
    """DescribePrefixLists: those that AWS manages. Raises AwsError InvalidPrefixListID.NotFound, InvalidParameterValue."""
    filters: Filters[PrefixList] = {
        "prefix-list-id": lambda row: (row.id,),
        "prefix-list-name": lambda row: (row.name,),
    }
    ours = [row for row in _selected(session, caller, request) if _owner(row, caller) == _AWS]
    shown, more = page(request, matching(request, ours, filters, None), lambda row: row.id, "PrefixListIds", minimum=1)
    described = [{"PrefixListId": row.id, "PrefixListName": row.name, "Cidrs": OF_S3} for row in shown]
    return {"PrefixLists": described, **more}


def get_managed_prefix_list_entries(session: Session, caller: Caller, request: Members) -> Members:
    """GetManagedPrefixListEntries, of the newest version or of an older one.

    Raises AwsError InvalidPrefixListID.NotFound, InvalidParameterValue (no such version).
    """
    named = known(session, caller, request["PrefixListId"])
    entries = _at(session, named, _version(named, request.get("TargetVersion", named.version)))
    shown, more = page(request, entries, lambda entry: entry.cidr, minimum=1)
    described = [{"Cidr": entry.cidr, **({"Description": entry.description} if entry.description else {})} for entry in shown]
    return {"Entries": described, **more}


def get_managed_prefix_list_associations(session: Session, caller: Caller, request: Members) -> Members:
    """GetManagedPrefixListAssociations: the security groups and route tables that refer to a list.

    Raises AwsError InvalidPrefixListID.NotFound, InvalidParameterValue.
    """
    named = known(session, caller, request["PrefixListId"])
    groups = select(SecurityGroupRule.group_id).where(SecurityGroupRule.prefix_list == named.id).distinct()
    tables = select(Route.route_table_id).where(Route.destination == named.id)
    shown, more = page(request, [*session.scalars(groups), *session.scalars(tables)], lambda resource: resource)
    return {
        "PrefixListAssociations": [{"ResourceId": resource, "ResourceOwner": caller.account} for resource in shown],
        **more,
    }


def modify_managed_prefix_list(session: Session, caller: Caller, request: Members) -> tuple[Sequence[str], Members]:
    """ModifyManagedPrefixList: rename, resize, or change entries, which makes a new version.

    Raises AwsError InvalidPrefixListID.NotFound, PrefixListVersionMismatch, InvalidPrefixListModification,
    PrefixListMaxEntriesExceeded, RulesPerSecurityGroupLimitExceeded, InvalidParameterValue, InvalidParameterCombination,
    MissingParameter, OperationNotPermitted (AWS's own).
    """
    refuse(request, "IpamPrefixListResolverSyncEnabled")
    changed = _own(session, caller, request["PrefixListId"])
    if "PrefixListName" in request:
        _check_name(request["PrefixListName"])
        changed.name = request["PrefixListName"]
    added = _entries(changed.family, request.get("AddEntries", []))
    removed = _entries(changed.family, request.get("RemoveEntries", []))
    if "MaxEntries" in request:
        if added or removed:
            raise invalid_combination("You cannot modify the entries and the size of a prefix list at the same time.")
        _resize(session, changed, request["MaxEntries"])
    if added or removed:
        _check_version(changed, request)
        present = {entry.cidr: entry.description for entry in _at(session, changed, changed.version)}
        for cidr in removed:
            if cidr not in present:
                raise AwsError("InvalidPrefixListModification", f"The prefix list '{changed.id}' has no entry '{cidr}'.")
        kept = {cidr: description for cidr, description in present.items() if cidr not in removed}
        _replace(session, changed, {**kept, **added})
    changed.state = "modify-complete"
    session.flush()
    return _vpcs(session, changed), {"PrefixList": _described(changed, caller, tags.Tags(session, PrefixList).of(changed))}


def restore_managed_prefix_list_version(session: Session, caller: Caller, request: Members) -> tuple[Sequence[str], Members]:
    """RestoreManagedPrefixListVersion: the entries of an older version, as a new version.

    Raises AwsError InvalidPrefixListID.NotFound, PrefixListVersionMismatch, InvalidParameterValue,
    PrefixListMaxEntriesExceeded, OperationNotPermitted (AWS's own).
    """
    changed = _own(session, caller, request["PrefixListId"])
    _check_version(changed, request)
    older = _at(session, changed, _version(changed, request["PreviousVersion"]))
    _replace(session, changed, {entry.cidr: entry.description for entry in older})
    changed.state = "restore-complete"
    session.flush()
    return _vpcs(session, changed), {"PrefixList": _described(changed, caller, tags.Tags(session, PrefixList).of(changed))}


def delete_managed_prefix_list(session: Session, caller: Caller, request: Members) -> Members:
    """DeleteManagedPrefixList. Raises AwsError InvalidPrefixListID.NotFound, DependencyViolation, OperationNotPermitted."""
    doomed = _own(session, caller, request["PrefixListId"])
    in_rules = select(exists().where(SecurityGroupRule.prefix_list == doomed.id))
    in_routes = select(exists().where(Route.destination == doomed.id))
    if session.scalar(in_rules) or session.scalar(in_routes):
        raise dependency_violation(f"The prefix list '{doomed.id}' is in use and cannot be deleted.")
    described = _described(doomed, caller, tags.Tags(session, PrefixList).of(doomed))
    tags.forget(session, [doomed.id])
    session.execute(delete(PrefixListEntry).where(PrefixListEntry.prefix_list_id == doomed.id))
    session.delete(doomed)
    return {"PrefixList": {**described, "State": "delete-complete"}}


def _managed_by_aws(region: str) -> list[PrefixList]:
    return [of_service(endpoint_services.s3(region))]


def _selected(session: Session, caller: Caller, request: Members) -> list[PrefixList]:
    """The lists that a request names; all where it names none."""
    ids = request.get("PrefixListIds", [])
    if ids:
        return [known(session, caller, list_id) for list_id in dict.fromkeys(ids)]
    return [*_managed_by_aws(caller.region), *find_all(session, PrefixList, [])]


def _own(session: Session, caller: Caller, list_id: str) -> PrefixList:
    """The account's own list of that id."""
    named = known(session, caller, list_id)
    if _owner(named, caller) == _AWS:
        raise AwsError("OperationNotPermitted", f"The prefix list '{list_id}' is managed by AWS.")
    return named


def _owner(row: PrefixList, caller: Caller) -> str:
    return _AWS if row.name.startswith(_RESERVED) else caller.account


def _vpcs(session: Session, changed: PrefixList) -> list[str]:
    """The VPCs with rules or routes that refer to a list."""
    rules = select(SecurityGroup.vpc_id).join(SecurityGroupRule, SecurityGroupRule.group_id == SecurityGroup.id)
    routes = select(RouteTable.vpc_id).join(Route, Route.route_table_id == RouteTable.id)
    found = {*session.scalars(rules.where(SecurityGroupRule.prefix_list == changed.id))}
    return sorted(found.union(session.scalars(routes.where(Route.destination == changed.id))))


def _at(session: Session, named: PrefixList, version: int) -> list[PrefixListEntry]:
    if named.name.startswith(_RESERVED):
        return [_entry(named, cidr, None, 1) for cidr in OF_S3]
    query = select(PrefixListEntry).where(PrefixListEntry.prefix_list_id == named.id, PrefixListEntry.since <= version)
    return [entry for entry in session.scalars(query) if entry.until is None or version < entry.until]


def _replace(session: Session, changed: PrefixList, entries: Mapping[str, str | None]) -> None:
    """Make `entries` a list's newest version."""
    if len(entries) > changed.max_entries:
        raise _full(changed.max_entries)
    present = {entry.cidr: entry for entry in _at(session, changed, changed.version)}
    changed.version += 1
    for cidr, entry in present.items():
        if cidr not in entries or entries[cidr] != entry.description:
            entry.until = changed.version
    for cidr, description in entries.items():
        if cidr not in present or present[cidr].description != description:
            session.add(_entry(changed, cidr, description, changed.version))


def _resize(session: Session, changed: PrefixList, size: int) -> None:
    _check_size(size)
    if len(_at(session, changed, changed.version)) > size:
        raise _full(size)
    changed.max_entries = size
    session.flush()
    referring = select(SecurityGroupRule).filter_by(prefix_list=changed.id)
    for group, direction in {(rule.group_id, rule.direction) for rule in session.scalars(referring)}:
        quota.check(session, session.scalars(select(SecurityGroupRule).filter_by(group_id=group, direction=direction)))


def _check_version(changed: PrefixList, request: Members) -> None:
    current = request.get("CurrentVersion")
    if current is None:
        raise missing_parameter("CurrentVersion")
    if current != changed.version:
        raise AwsError("PrefixListVersionMismatch", "The prefix list has the incorrect version number")


def _version(named: PrefixList, version: int) -> int:
    if not 1 <= version <= named.version:
        raise invalid_parameter(f"The prefix list '{named.id}' has no version {version}.")
    return version


def _entries(family: str, wanted: Iterable[Members]) -> dict[str, str | None]:
    """The blocks of a request's entries and their descriptions. Raises AwsError InvalidParameterValue."""
    entries: dict[str, str | None] = {}
    for entry in wanted:
        network = FAMILIES[family](entry["Cidr"])
        if network is None:
            raise invalid_parameter(f"The CIDR ({entry['Cidr']}) is not a valid {family} CIDR block.")
        if str(network) in entries:
            raise invalid_parameter(f"The CIDR ({entry['Cidr']}) appears multiple times.")
        description = entry.get("Description")
        if description is not None and len(description) > 255:
            raise invalid_parameter("The description of an entry must not be longer than 255 characters.")
        entries[str(network)] = description or None
    return entries


def _entry(row: PrefixList, cidr: str, description: str | None, version: int) -> PrefixListEntry:
    return PrefixListEntry(prefix_list_id=row.id, cidr=cidr, since=version, description=description)


def _check_name(name: str) -> None:
    if not 1 <= len(name) <= 255 or name.startswith(_RESERVED):
        reason = f"It has up to 255 characters and does not start with {_RESERVED}."
        raise invalid_parameter(f"Value ({name}) for parameter prefixListName is invalid. {reason}")


def _check_size(size: int) -> None:
    if not 1 <= size <= MAX_ENTRIES:
        raise invalid_parameter(f"Value ({size}) for parameter maxEntries is invalid. It must be between 1 and {MAX_ENTRIES}.")


def _full(size: int) -> AwsError:
    return AwsError("PrefixListMaxEntriesExceeded", f"You've reached the maximum number of entries for the prefix list: {size}")


def _described(row: PrefixList, caller: Caller, attached: Mapping[str, str]) -> Members:
    owner = _owner(row, caller)
    account = "aws" if owner == _AWS else owner
    members: Members = {
        "PrefixListId": row.id,
        "PrefixListArn": f"arn:aws:ec2:{caller.region}:{account}:prefix-list/{row.id}",
        "PrefixListName": row.name,
        "AddressFamily": row.family,
        "State": row.state,
        "OwnerId": owner,
        "Tags": tags.as_members(attached),
    }
    # AWS shows neither size nor version of its own lists.
    return members if owner == _AWS else {**members, "MaxEntries": row.max_entries, "Version": row.version}
