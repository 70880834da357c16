"""Amazon EC2 as the wire sees it: each operation with its transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from sqlalchemy.orm import Session

from phalanx.jobs.control import JobControl
from phalanx.services.ec2 import (
    account,
    addresses,
    dhcp_options,
    endpoint_services,
    internet_gateways,
    nat_gateways,
    network_acls,
    network_interfaces,
    prefix_lists,
    regions,
    route_tables,
    routes,
    rules,
    security_groups,
    subnets,
    tags,
    vpc_attributes,
    vpc_endpoints,
    vpcs,
    zones,
)
from phalanx.services.ec2.idempotency import Operation, idempotent
from phalanx.services.ec2.vpcs import ensure_default_vpc
from phalanx.store.database import Database
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Caller, Handler, Members, Service

__all__ = ["ensure_default_vpc", "service"]

VpcChange = Callable[[Session, Caller, Members], tuple[Sequence[str], Members]]
"""An operation that changes what rules allow or where routes lead; returns the ids of the VPCs concerned with the response."""


def service(database: Database, control: JobControl) -> Service:
    """The EC2 service over a database. `control` hears of the VPCs of every committed change of rules or of ways out."""

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

    def changes_vpc(operation: VpcChange) -> Handler:
        def handle(caller: Caller, request: Members) -> Members:
            _answer_dry_run(request)
            with database.write() as session:
                vpc_ids, response = operation(session, caller, request)
            control.network_changed(*vpc_ids)
            return response

        return handle

    return Service(
        "ec2",
        {
            "CreateVpc": writes(vpcs.create_vpc),
            "DescribeVpcs": reads(vpcs.describe_vpcs),
            "DeleteVpc": writes(vpcs.delete_vpc),
            "CreateDefaultVpc": writes(vpcs.create_default_vpc),
            "DescribeVpcAttribute": reads(vpc_attributes.describe_vpc_attribute),
            "ModifyVpcAttribute": changes_vpc(vpc_attributes.modify_vpc_attribute),
            "CreateSubnet": writes(subnets.create_subnet),
            "DescribeSubnets": reads(subnets.describe_subnets),
            "ModifySubnetAttribute": writes(subnets.modify_subnet_attribute),
            "DeleteSubnet": writes(subnets.delete_subnet),
            "CreateSecurityGroup": writes(security_groups.create_security_group),
            "DescribeSecurityGroups": reads(security_groups.describe_security_groups),
            "GetSecurityGroupsForVpc": reads(security_groups.get_security_groups_for_vpc),
            "DescribeStaleSecurityGroups": reads(security_groups.describe_stale_security_groups),
            "DescribeSecurityGroupReferences": reads(security_groups.describe_security_group_references),
            "DeleteSecurityGroup": writes(security_groups.delete_security_group),
            "AuthorizeSecurityGroupIngress": changes_vpc(partial(rules.authorize, "ingress")),
            "AuthorizeSecurityGroupEgress": changes_vpc(partial(rules.authorize, "egress")),
            "RevokeSecurityGroupIngress": changes_vpc(partial(rules.revoke, "ingress")),
            "RevokeSecurityGroupEgress": changes_vpc(partial(rules.revoke, "egress")),
            "ModifySecurityGroupRules": changes_vpc(rules.modify_security_group_rules),
            "UpdateSecurityGroupRuleDescriptionsIngress": writes(partial(rules.update_descriptions, "ingress")),
            "UpdateSecurityGroupRuleDescriptionsEgress": writes(partial(rules.update_descriptions, "egress")),
            "DescribeSecurityGroupRules": reads(rules.describe_security_group_rules),
            "CreateManagedPrefixList": writes(
                idempotent("CreateManagedPrefixList", prefix_lists.create_managed_prefix_list, echo=False)
            ),
            "DescribeManagedPrefixLists": reads(prefix_lists.describe_managed_prefix_lists),
            "DescribePrefixLists": reads(prefix_lists.describe_prefix_lists),
            "GetManagedPrefixListEntries": reads(prefix_lists.get_managed_prefix_list_entries),
            "GetManagedPrefixListAssociations": reads(prefix_lists.get_managed_prefix_list_associations),
            "ModifyManagedPrefixList": changes_vpc(prefix_lists.modify_managed_prefix_list),
            "RestoreManagedPrefixListVersion": changes_vpc(prefix_lists.restore_managed_prefix_list_version),
            "DeleteManagedPrefixList": writes(prefix_lists.delete_managed_prefix_list),
            "CreateRouteTable": writes(idempotent("CreateRouteTable", route_tables.create_route_table)),
            "DescribeRouteTables": reads(route_tables.describe_route_tables),
            "DeleteRouteTable": writes(route_tables.delete_route_table),
            "AssociateRouteTable": changes_vpc(route_tables.associate_route_table),
            "DisassociateRouteTable": changes_vpc(route_tables.disassociate_route_table),
            "ReplaceRouteTableAssociation": changes_vpc(route_tables.replace_route_table_association),
            "CreateRoute": changes_vpc(routes.create_route),
            "ReplaceRoute": changes_vpc(routes.replace_route),
            "DeleteRoute": changes_vpc(routes.delete_route),
            "CreateInternetGateway": writes(internet_gateways.create_internet_gateway),
            "DescribeInternetGateways": reads(internet_gateways.describe_internet_gateways),
            "AttachInternetGateway": changes_vpc(internet_gateways.attach_internet_gateway),
            "DetachInternetGateway": changes_vpc(internet_gateways.detach_internet_gateway),
            "DeleteInternetGateway": writes(internet_gateways.delete_internet_gateway),
            "CreateNatGateway": changes_vpc(
                _within_vpc("NatGateway", idempotent("CreateNatGateway", nat_gateways.create_nat_gateway))
            ),
            "DescribeNatGateways": reads(nat_gateways.describe_nat_gateways),
            "DeleteNatGateway": changes_vpc(nat_gateways.delete_nat_gateway),
            "AllocateAddress": writes(addresses.allocate_address),
            "DescribeAddresses": reads(addresses.describe_addresses),
            "DescribeAddressesAttribute": reads(addresses.describe_addresses_attribute),
            "DisassociateAddress": reads(addresses.disassociate_address),
            "ReleaseAddress": writes(addresses.release_address),
            "CreateVpcEndpoint": changes_vpc(
                _within_vpc("VpcEndpoint", idempotent("CreateVpcEndpoint", vpc_endpoints.create_vpc_endpoint))
            ),
            "DescribeVpcEndpoints": reads(vpc_endpoints.describe_vpc_endpoints),
            "ModifyVpcEndpoint": changes_vpc(vpc_endpoints.modify_vpc_endpoint),
            "DeleteVpcEndpoints": changes_vpc(vpc_endpoints.delete_vpc_endpoints),
            "DescribeVpcEndpointServices": reads(endpoint_services.describe_vpc_endpoint_services),
            "CreateDhcpOptions": writes(dhcp_options.create_dhcp_options),
            "DescribeDhcpOptions": reads(dhcp_options.describe_dhcp_options),
            "AssociateDhcpOptions": changes_vpc(dhcp_options.associate_dhcp_options),
            "DeleteDhcpOptions": writes(dhcp_options.delete_dhcp_options),
            "CreateNetworkAcl": writes(idempotent("CreateNetworkAcl", network_acls.create_network_acl)),
            "DescribeNetworkAcls": reads(network_acls.describe_network_acls),
            "DeleteNetworkAcl": writes(network_acls.delete_network_acl),
            "CreateNetworkAclEntry": changes_vpc(network_acls.create_network_acl_entry),
            "ReplaceNetworkAclEntry": changes_vpc(network_acls.replace_network_acl_entry),
            "DeleteNetworkAclEntry": changes_vpc(network_acls.delete_network_acl_entry),
            "ReplaceNetworkAclAssociation": changes_vpc(network_acls.replace_network_acl_association),
            "DescribeNetworkInterfaces": reads(network_interfaces.describe_network_interfaces),
            "CreateTags": writes(tags.create_tags),
            "DeleteTags": writes(tags.delete_tags),
            "DescribeTags": reads(tags.describe_tags),
            "DescribeAccountAttributes": reads(account.describe_account_attributes),
            "DescribeRegions": reads(regions.describe_regions),
            "DescribeAvailabilityZones": reads(zones.describe_availability_zones),
        },
    )


def _within_vpc(member: str, operation: Operation) -> VpcChange:
    """`operation`, which makes something in a VPC and returns it as `member`: that VPC is concerned, also by a repetition."""

    def change(session: Session, caller: Caller, request: Members) -> tuple[Sequence[str], Members]:
        response = operation(session, caller, request)
        return [response[member]["VpcId"]], response

    return change


def _answer_dry_run(request: Members) -> None:
    if request.get("DryRun"):
        raise AwsError("DryRunOperation", "Request would have succeeded, but DryRun flag is set.", 412)
