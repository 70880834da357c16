"""The guard of the endpoint: every operation of every service is held against the caller's policies, and put on record."""

from __future__ import annotations

import functools
import ipaddress

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from phalanx.identity import actions, context
from phalanx.identity.conditions import Context
from phalanx.identity.directory import Directory, Identity
from phalanx.identity.exempt import Exempt
from phalanx.identity.policy import Decision, Statement, compiled
from phalanx.identity.throttle import Throttle
from phalanx.identity.trail import Trail
from phalanx.identity.trust import SAGEMAKER, trusts, trusts_sagemaker
from phalanx.store.identity import ManagedPolicy, Role, User, role_named, user_named
from phalanx.store.jobs import Tag
from phalanx.store.keys import Key, KeyAlias
from phalanx.store.named import NAMED, arns
from phalanx.store.network import (
    BY_PREFIX,
    ElasticAddress,
    NatGateway,
    ResourceTag,
    RouteTableAssociation,
    SecurityGroup,
    Subnet,
)
from phalanx.wire.errors import AwsError, Denied
from phalanx.wire.service import Caller, Client, Event, Members

log = structlog.get_logger()


class Authority:
    """Implements wire.service.Guard over a directory of identities and an audit trail."""

    def __init__(
        self, directory: Directory, trail: Trail, throttle: Throttle | None = None, exempt: Exempt | None = None
    ) -> None:
        self._directory = directory
        self._trail = trail
        self._throttle = throttle or Throttle()
        self._exempt = exempt or Exempt(directory.database)

    def admit(self, client: Client, access_key: str) -> bool:
        """See Guard."""
        # On a fleet's hosts the platform shares an address with containers, which may fail as they like. Who else knows its
        # key's id is looked at, and no more.
        return self._throttle.admits(_source(client.address), access_key) or self._exempt.has(access_key)

    def refused(self, client: Client) -> bool:
        """See Guard."""
        return self._throttle.failed(_source(client.address))

    def accepted(self, client: Client, access_key: str) -> None:
        """See Guard."""
        self._throttle.succeeded(_source(client.address), access_key)

    def ready(self) -> bool:
        """See Guard."""
        return self._trail.ready()

    def record(self, event: Event) -> None:
        """See Guard."""
        who = None if event.caller is None else self._directory.find(event.access_key)
        self._trail.record(event, who)

    def authorize(self, caller: Caller, service: str, operation: str, members: Members) -> None:
        """See Guard."""
        who = self._directory.find(caller.access_key)
        if who is None:
            # Its key was deleted since the signature was verified.
            raise Denied(f"User: {caller.arn} is not authorized to perform: {service}:{operation}")
        if who.session and who.kind == "user":
            _of_a_session(service, operation)
        if not who.administrator:
            self._authorize(caller, who, service, operation, members)
        if service == "sagemaker":
            for arn in actions.passed_roles(members):
                self._check_role(caller, who, arn)
        if (service, operation) == ("sts", "AssumeRole"):
            self._check_trust(caller, who, members)

    def _authorize(self, caller: Caller, who: Identity, service: str, operation: str, members: Members) -> None:
        if (service, operation) == ("sts", "AssumeRole"):
            return
        for need in actions.needs(caller, service, operation, members, self._find):
            for each in context.of(caller, who, service, operation, members, need, self._tags, self._find):
                _decide(caller, who, *need, each)

    def _check_role(self, caller: Caller, who: Identity, arn: str) -> None:
        """iam:PassRole, and whether SageMaker may assume the role."""
        if not who.administrator:
            _decide(caller, who, "iam:PassRole", arn, context.of_passing(caller, who, arn, self._tags))
        trust = self._directory.trust(arn)
        if trust is not None and trusts_sagemaker(trust):
            return
        raise AwsError(
            "ValidationException",
            f"Could not assume role {arn}. Please ensure that the role exists and allows principal '{SAGEMAKER}' to assume"
            " the role.",
        )

    def _check_trust(self, caller: Caller, who: Identity, members: Members) -> None:
        """sts:AssumeRole: the role has to trust the caller; where it trusts the whole account, policies have to allow it."""
        arn = members["RoleArn"]
        trust = self._directory.trust(arn)
        refusal = Denied(f"User: {caller.arn} is not authorized to perform: sts:AssumeRole on resource: {arn}")
        if trust is None:
            raise refusal
        asked = context.of_assuming(caller, who, members, self._tags)
        named = {who.arn, caller.arn, caller.user_id}
        account = {caller.account, f"arn:aws:iam::{caller.account}:root", "*"}

        def principals(each: Statement) -> tuple[str, ...]:
            return (each.principal or {}).get("AWS", ())

        for each in compiled(trust, "trust"):
            concerns = (named | account).intersection(principals(each))
            if each.denies and concerns and each.action("sts:assumerole") and each.holds(asked):
                raise Denied(f"{refusal.message} with an explicit deny in a resource-based policy")
        if not who.administrator:
            decision, bounds = _ask(who, "sts:AssumeRole", arn, asked)
            if decision is Decision.EXPLICIT_DENY:
                raise _denied(caller, "sts:AssumeRole", arn, decision, bounds)
            by_name = trusts(trust, lambda each: bool(named.intersection(principals(each))), asked)
            if by_name and not (who.session and len(who.bounds) > 1):
                return
            if decision is not Decision.ALLOWED:
                raise _denied(caller, "sts:AssumeRole", arn, decision, bounds)
        if not trusts(trust, lambda each: bool((named | account).intersection(principals(each))), asked):
            raise refusal

    def _find(self, kind: str, name: str) -> list[str]:
        """See actions.Find."""
        if kind in NAMED:
            with self._directory.database.rows() as connection:
                return arns(connection, kind, name)
        with self._directory.database.read() as transaction:
            if kind == "user":
                user = user_named(transaction, name)
                return [] if user is None else [f"user{user.path}{user.name}"]
            if kind == "role":
                role = role_named(transaction, name)
                return [] if role is None else [f"role{role.path}{role.name}"]
            if kind == "key":
                id = name.rpartition("/")[2] if ":key/" in name else name
                alias = KeyAlias.name == ("alias/" + name.partition("alias/")[2])
                keys = select(Key.arn).outerjoin(KeyAlias, KeyAlias.key == Key.id).where((Key.id == id) | alias)
                return list(transaction.scalars(keys.limit(1)))
            if kind == "alias":
                return list(transaction.scalars(select(KeyAlias.arn).where(KeyAlias.name == name)))
            if kind == "AssociationId":
                association = transaction.get(RouteTableAssociation, name)
                if association is not None:
                    return [association.route_table_id]
                for subnet in transaction.scalars(select(Subnet).where(Subnet.acl_association == name)):
                    return [subnet.id]
                if name.startswith("aclassoc-") and transaction.get(Subnet, name.replace("aclassoc", "subnet")) is not None:
                    return [name.replace("aclassoc", "subnet")]
                gateways = transaction.scalars(select(NatGateway).where(NatGateway.state == "available"))
                return [each.allocation_id for each in gateways if each.allocation_id and each.association_id == name]
            if kind == "Vpc":
                table = BY_PREFIX.get(name.partition("-")[0])
                placed = None if table is None else transaction.get(table, name)
                return [vpc] if isinstance(vpc := getattr(placed, "vpc_id", None), str) else []
            if kind == "PublicIp":
                return list(transaction.scalars(select(ElasticAddress.id).where(ElasticAddress.address == name)))
            if kind == "GroupName":
                return list(transaction.scalars(select(SecurityGroup.id).where(SecurityGroup.name == name)))
        return []

    def _tags(self, arn: str) -> dict[str, str]:
        """See context.Tags."""
        service = arn.split(":")[2] if arn.startswith("arn:") else ""
        with self._directory.database.read() as transaction:
            if service == "ec2":
                of_ec2 = select(ResourceTag).where(ResourceTag.resource_id == arn.rpartition("/")[2])
                return {tag.key: tag.value for tag in transaction.scalars(of_ec2)}
            if service == "iam":
                return _tags_of_iam(transaction, arn)
            return {tag.key: tag.value for tag in transaction.scalars(select(Tag).where(Tag.arn == arn))}


def _tags_of_iam(transaction: Session, arn: str) -> dict[str, str]:
    kind, _, rest = arn.rpartition(":")[2].partition("/")
    name = rest.rpartition("/")[2]
    found: User | Role | ManagedPolicy | None = None
    if kind == "user":
        found = user_named(transaction, name)
    elif kind == "role":
        found = role_named(transaction, name)
    elif kind == "policy":
        found = transaction.get(ManagedPolicy, arn)
    return {} if found is None else found.tags


def _ask(who: Identity, action: str, resource: str, asked: Context) -> tuple[Decision, int]:
    """What a principal's policies say, and which of its bounds said so: 0 its own, 1 its session's."""
    for number, policies in enumerate(who.bounds):
        decision, _ = policies.decide(action, resource, asked)
        if decision is not Decision.ALLOWED:
            return decision, number
    return Decision.ALLOWED, 0


def _decide(caller: Caller, who: Identity, action: str, resource: str, asked: Context) -> None:
    decision, bound = _ask(who, action, resource, asked)
    if decision is not Decision.ALLOWED:
        raise _denied(caller, action, resource, decision, bound)


def _denied(caller: Caller, action: str, resource: str, decision: Decision, bound: int) -> Denied:
    """In AWS's words ("Troubleshoot access denied error messages" in the IAM user guide)."""
    kind = "identity-based" if bound == 0 else "session"
    reason = (
        f"with an explicit deny in {'an' if bound == 0 else 'a'} {kind} policy"
        if decision is Decision.EXPLICIT_DENY
        else f"because no {kind} policy allows the {action} action"
    )
    return Denied(f"User: {caller.arn} is not authorized to perform: {action} on resource: {resource} {reason}")


def _of_a_session(service: str, operation: str) -> None:
    """Credentials of GetSessionToken reach neither IAM nor most of STS ("Comparing AWS STS credentials")."""
    if service == "iam" or (service == "sts" and operation not in ("AssumeRole", "GetCallerIdentity")):
        raise AwsError("InvalidClientTokenId", "The security token included in the request is invalid", 403)


@functools.lru_cache(maxsize=4096)
def _source(address: str) -> str:
    """Whose failures are counted together: an IPv4 address, or the /64 of an IPv6 address."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
