"""Amazon EC2 as the wire sees it: each operation with its transaction."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy.orm import Session

from phalanx.jobs.control import JobControl
from phalanx.services.ec2 import network_interfaces, rules, security_groups, subnets, tags, vpcs, zones
from phalanx.services.ec2.vpcs import ensure_default_vpc
from phalanx.store.database import Database
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Caller, Handler, Members, Service

__all__ = ["ensure_default_vpc", "service"]

Operation = Callable[[Session, Caller, Members], Members]
RuleChange = Callable[[Session, Caller, Members], tuple[str, Members]]
"""An operation that changes a VPC's rules; returns the VPC's id with the response."""


def service(database: Database, control: JobControl) -> Service:
    """The EC2 service over a database. `control` hears of every committed change of rules."""

    def reads(operation: Operation) -> Handler:
        def handle(caller: Caller, request: Members) -> Members:
            _answer_dry_run(request)
            with database.read() as session:
                return operation(session, caller, request)

        return handle

    def writes(operation: Operation) -> Handler:
        def handle(caller: Caller, request: Members) -> Members:
            _answer_dry_run(request)
            with database.write() as session:
                return operation(session, caller, request)

        return handle

    def changes_rules(operation: RuleChange) -> Handler:
        def handle(caller: Caller, request: Members) -> Members:
            _answer_dry_run(request)
            with database.write() as session:
                vpc_id, response = operation(session, caller, request)
            control.network_changed(vpc_id)
            return response

        return handle

    return Service(
        "ec2",
        {
            "CreateVpc": writes(vpcs.create_vpc),
            "DescribeVpcs": reads(vpcs.describe_vpcs),
            "DeleteVpc": writes(vpcs.delete_vpc),
            "CreateSubnet": writes(subnets.create_subnet),
            "DescribeSubnets": reads(subnets.describe_subnets),
            "DeleteSubnet": writes(subnets.delete_subnet),
            "CreateSecurityGroup": writes(security_groups.create_security_group),
            "DescribeSecurityGroups": reads(security_groups.describe_security_groups),
            "DeleteSecurityGroup": writes(security_groups.delete_security_group),
            "AuthorizeSecurityGroupIngress": changes_rules(rules.authorize_ingress),
            "AuthorizeSecurityGroupEgress": changes_rules(rules.authorize_egress),
            "RevokeSecurityGroupIngress": changes_rules(rules.revoke_ingress),
            "RevokeSecurityGroupEgress": changes_rules(rules.revoke_egress),
            "DescribeSecurityGroupRules": reads(rules.describe_security_group_rules),
            "DescribeNetworkInterfaces": reads(network_interfaces.describe_network_interfaces),
            "CreateTags": writes(tags.create_tags),
            "DeleteTags": writes(tags.delete_tags),
            "DescribeTags": reads(tags.describe_tags),
            "DescribeAvailabilityZones": reads(zones.describe_availability_zones),
        },
    )


def _answer_dry_run(request: Members) -> None:
    if request.get("DryRun"):
        raise AwsError("DryRunOperation", "Request would have succeeded, but DryRun flag is set.", 412)
