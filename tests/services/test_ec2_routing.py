"""Route tables, routes and internet gateways; the handlers called directly."""

import re

import pytest

from phalanx.jobs import interfaces
from phalanx.services.ec2.service import ensure_default_vpc

ANYWHERE = "0.0.0.0/0"


@pytest.fixture
def subnet(ec2, vpc):
    return ec2.CreateSubnet(VpcId=vpc, CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"]


@pytest.fixture
def table(ec2, vpc):
    return ec2.CreateRouteTable(VpcId=vpc)["RouteTable"]["RouteTableId"]


@pytest.fixture
def gateway(ec2, vpc):
    made = ec2.CreateInternetGateway()["InternetGateway"]["InternetGatewayId"]
    ec2.AttachInternetGateway(InternetGatewayId=made, VpcId=vpc)
    return made


def main(ec2, vpc):
    filters = [{"Name": "vpc-id", "Values": [vpc]}, {"Name": "association.main", "Values": ["true"]}]
    (found,) = ec2.DescribeRouteTables(Filters=filters)["RouteTables"]
    return found


def shown(ec2, table):
    return ec2.DescribeRouteTables(RouteTableIds=[table])["RouteTables"][0]


def routes(ec2, table):
    """Target and state of each route by its destination."""
    found = {}
    for route in shown(ec2, table)["Routes"]:
        (destination,) = (value for member, value in route.items() if member.startswith("Destination"))
        (target,) = (value for member, value in route.items() if member.endswith(("GatewayId", "InterfaceId")))
        found[destination] = target, route["State"]
    return found


def eni(ec2, subnet, group):
    with ec2.database.write() as session:
        (made,) = interfaces.allocate(session, "job", ["algo-1"], [subnet], [group])
        return made.id


def test_a_vpc_comes_with_its_main_table(ec2, vpc):
    found = main(ec2, vpc)
    assert re.fullmatch(r"rtb-0[0-9a-f]{16}", found["RouteTableId"])
    assert found["Routes"] == [
        {
            "DestinationCidrBlock": "10.0.0.0/16",
            "GatewayId": "local",
            "Origin": "CreateRouteTable",
            "State": "active",
        }
    ]
    (association,) = found["Associations"]
    assert (association["Main"], association["RouteTableId"]) == (True, found["RouteTableId"])
    assert "SubnetId" not in association
    message = ec2.refused("DependencyViolation", "DeleteRouteTable", RouteTableId=found["RouteTableId"])
    assert message == f"The routeTable '{found['RouteTableId']}' has dependencies and cannot be deleted."
    message = ec2.refused(
        "InvalidParameterValue", "DisassociateRouteTable", AssociationId=association["RouteTableAssociationId"]
    )
    assert message == (f"cannot disassociate the main route table association {association['RouteTableAssociationId']}")


def test_a_table(ec2, vpc):
    tags = [{"ResourceType": "route-table", "Tags": [{"Key": "Name", "Value": "private"}]}]
    made = ec2.CreateRouteTable(VpcId=vpc, TagSpecifications=tags)["RouteTable"]
    assert (made["VpcId"], made["OwnerId"], made["Associations"]) == (vpc, "123456789012", [])
    assert made["Tags"] == [{"Key": "Name", "Value": "private"}]
    assert shown(ec2, made["RouteTableId"]) == made
    ec2.refused("DependencyViolation", "DeleteVpc", VpcId=vpc)
    assert ec2.DeleteRouteTable(RouteTableId=made["RouteTableId"]) == {}
    message = ec2.refused("InvalidRouteTableID.NotFound", "DeleteRouteTable", RouteTableId=made["RouteTableId"])
    assert message == f"The routeTable ID '{made['RouteTableId']}' does not exist"
    assert ec2.DescribeTags()["Tags"] == []
    ec2.DeleteVpc(VpcId=vpc)


def test_the_table_of_a_subnet(ec2, vpc, subnet, table):
    associated = ec2.AssociateRouteTable(RouteTableId=table, SubnetId=subnet)
    assert associated["AssociationState"] == {"State": "associated"}
    (association,) = shown(ec2, table)["Associations"]
    assert association["RouteTableAssociationId"] == associated["AssociationId"]
    assert (association["SubnetId"], association["Main"]) == (subnet, False)
    assert ec2.AssociateRouteTable(RouteTableId=table, SubnetId=subnet) == associated
    other = ec2.CreateRouteTable(VpcId=vpc)["RouteTable"]["RouteTableId"]
    ec2.refused("Resource.AlreadyAssociated", "AssociateRouteTable", RouteTableId=other, SubnetId=subnet)
    ec2.refused("DependencyViolation", "DeleteRouteTable", RouteTableId=table)
    for name, value in (
        ("association.subnet-id", subnet),
        ("association.route-table-association-id", associated["AssociationId"]),
        ("association.route-table-id", table),
        ("route-table-id", table),
    ):
        found = ec2.DescribeRouteTables(Filters=[{"Name": name, "Values": [value]}])["RouteTables"]
        assert [item["RouteTableId"] for item in found] == [table], name

    replaced = ec2.ReplaceRouteTableAssociation(AssociationId=associated["AssociationId"], RouteTableId=other)
    assert (shown(ec2, table)["Associations"], len(shown(ec2, other)["Associations"])) == ([], 1)
    ec2.refused("InvalidAssociationID.NotFound", "DisassociateRouteTable", AssociationId=associated["AssociationId"])
    ec2.DisassociateRouteTable(AssociationId=replaced["NewAssociationId"])
    assert shown(ec2, other)["Associations"] == []


def test_another_main_table(ec2, vpc, table):
    old = main(ec2, vpc)
    association = old["Associations"][0]["RouteTableAssociationId"]
    ec2.ReplaceRouteTableAssociation(AssociationId=association, RouteTableId=table)
    assert main(ec2, vpc)["RouteTableId"] == table
    ec2.DeleteRouteTable(RouteTableId=old["RouteTableId"])
    ec2.DeleteVpc(VpcId=vpc)
    assert ec2.DescribeRouteTables()["RouteTables"] == []


def test_a_deleted_subnet_leaves_its_table(ec2, subnet, table):
    ec2.AssociateRouteTable(RouteTableId=table, SubnetId=subnet)
    ec2.DeleteSubnet(SubnetId=subnet)
    assert shown(ec2, table)["Associations"] == []
    ec2.DeleteRouteTable(RouteTableId=table)


def test_associations_that_are_refused(ec2, vpc, subnet, table):
    other = ec2.CreateVpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    foreign = ec2.CreateRouteTable(VpcId=other)["RouteTable"]["RouteTableId"]
    message = ec2.refused("InvalidParameterValue", "AssociateRouteTable", RouteTableId=foreign, SubnetId=subnet)
    assert message == f"Route table {foreign} and subnet {subnet} belong to different networks"
    association = main(ec2, vpc)["Associations"][0]["RouteTableAssociationId"]
    members = {"AssociationId": association, "RouteTableId": foreign}
    ec2.refused("InvalidParameterValue", "ReplaceRouteTableAssociation", **members)
    ec2.refused("InvalidSubnetID.NotFound", "AssociateRouteTable", RouteTableId=table, SubnetId="subnet-12345678")
    ec2.refused("MissingParameter", "AssociateRouteTable", RouteTableId=table)
    ec2.refused("UnsupportedOperation", "AssociateRouteTable", RouteTableId=table, GatewayId="igw-12345678")


# ---------------------------------------------------------------------------------------------------------------- Routes


def test_routes(ec2, vpc, subnet, group, table, gateway):
    interface = eni(ec2, subnet, group)
    assert ec2.CreateRoute(RouteTableId=table, DestinationCidrBlock=ANYWHERE, GatewayId=gateway) == {"Return": True}
    ec2.CreateRoute(RouteTableId=table, DestinationIpv6CidrBlock="2001:DB8::1/32", NetworkInterfaceId=interface)
    ec2.CreateRoute(RouteTableId=table, DestinationCidrBlock="10.0.1.7/24", NetworkInterfaceId=interface)
    assert routes(ec2, table) == {
        "10.0.0.0/16": ("local", "active"),
        "0.0.0.0/0": (gateway, "active"),
        "10.0.1.0/24": (interface, "active"),
        "2001:db8::/32": (interface, "active"),
    }
    for name, value in (
        ("route.destination-cidr-block", ANYWHERE),
        ("route.destination-ipv6-cidr-block", "2001:db8::/32"),
        ("route.gateway-id", gateway),
        ("route.network-interface-id", interface),
        ("route.origin", "CreateRoute"),
    ):
        found = ec2.DescribeRouteTables(Filters=[{"Name": name, "Values": [value]}])["RouteTables"]
        assert [item["RouteTableId"] for item in found] == [table], name

    ec2.ReplaceRoute(RouteTableId=table, DestinationCidrBlock=ANYWHERE, NetworkInterfaceId=interface)
    assert routes(ec2, table)[ANYWHERE] == (interface, "active")
    with ec2.database.write() as session:
        interfaces.release(session, "job")
    assert routes(ec2, table)[ANYWHERE] == (interface, "blackhole")
    assert ec2.DeleteRoute(RouteTableId=table, DestinationCidrBlock=ANYWHERE) == {}
    assert ANYWHERE not in routes(ec2, table)
    ec2.DeleteRouteTable(RouteTableId=table)


def test_a_detached_gateway_is_a_blackhole(ec2, vpc, table, gateway):
    ec2.CreateRoute(RouteTableId=table, DestinationCidrBlock=ANYWHERE, GatewayId=gateway)
    ec2.DetachInternetGateway(InternetGatewayId=gateway, VpcId=vpc)
    assert routes(ec2, table)[ANYWHERE] == (gateway, "blackhole")
    ec2.AttachInternetGateway(InternetGatewayId=gateway, VpcId=vpc)
    assert routes(ec2, table)[ANYWHERE] == (gateway, "active")


def test_a_route_to_a_prefix_list(ec2, table, gateway):
    listed = ec2.CreateManagedPrefixList(PrefixListName="a", AddressFamily="IPv4", MaxEntries=1)["PrefixList"]["PrefixListId"]
    ec2.CreateRoute(RouteTableId=table, DestinationPrefixListId=listed, GatewayId=gateway)
    assert routes(ec2, table)[listed] == (gateway, "active")
    associations = ec2.GetManagedPrefixListAssociations(PrefixListId=listed)["PrefixListAssociations"]
    assert [found["ResourceId"] for found in associations] == [table]
    ec2.refused("DependencyViolation", "DeleteManagedPrefixList", PrefixListId=listed)
    ec2.DeleteRoute(RouteTableId=table, DestinationPrefixListId=listed)
    ec2.DeleteManagedPrefixList(PrefixListId=listed)


def test_a_route_is_there_once(ec2, table, gateway):
    ec2.CreateRoute(RouteTableId=table, DestinationCidrBlock=ANYWHERE, GatewayId=gateway)
    members = {"RouteTableId": table, "DestinationCidrBlock": ANYWHERE, "GatewayId": gateway}
    assert ec2.refused("RouteAlreadyExists", "CreateRoute", **members) == ("The route identified by 0.0.0.0/0 already exists.")
    ec2.refused("RouteAlreadyExists", "CreateRoute", **{**members, "DestinationCidrBlock": "10.0.0.0/16"})


@pytest.mark.parametrize(
    ("code", "members"),
    [
        ("MissingParameter", {"DestinationCidrBlock": None}),
        ("MissingParameter", {"GatewayId": None}),
        ("InvalidParameterCombination", {"DestinationIpv6CidrBlock": "::/0"}),
        ("InvalidParameterCombination", {"NatGatewayId": "nat-12345678"}),
        ("InvalidParameterValue", {"DestinationCidrBlock": "0.0.0.0"}),
        ("InvalidParameterValue", {"DestinationCidrBlock": None, "DestinationIpv6CidrBlock": ANYWHERE}),
        ("InvalidParameterValue", {"DestinationCidrBlock": "10.0.1.0/24"}),
        ("InvalidPrefixListID.NotFound", {"DestinationCidrBlock": None, "DestinationPrefixListId": "pl-12345678"}),
        ("InvalidGatewayID.NotFound", {"GatewayId": "igw-12345678"}),
        ("InvalidGatewayID.NotFound", {"GatewayId": "vgw-12345678"}),
        ("NatGatewayNotFound", {"GatewayId": None, "NatGatewayId": "nat-12345678"}),
        ("InvalidNetworkInterfaceID.NotFound", {"GatewayId": None, "NetworkInterfaceId": "eni-12345678"}),
        ("RouteNotSupported", {"GatewayId": None, "VpcEndpointId": "vpce-12345678"}),
        ("RouteNotSupported", {"GatewayId": "vpce-12345678"}),
        ("UnsupportedOperation", {"GatewayId": None, "TransitGatewayId": "tgw-12345678"}),
        ("InvalidRouteTableID.NotFound", {"RouteTableId": "rtb-12345678"}),
        ("InvalidRouteTableId.Malformed", {"RouteTableId": "main"}),
    ],
)
def test_routes_that_are_refused(ec2, table, gateway, code, members):
    good = {"RouteTableId": table, "DestinationCidrBlock": ANYWHERE, "GatewayId": gateway}
    ec2.refused(code, "CreateRoute", **{name: value for name, value in {**good, **members}.items() if value is not None})


def test_a_gateway_of_another_network(ec2, table):
    loose = ec2.CreateInternetGateway()["InternetGateway"]["InternetGatewayId"]
    members = {"RouteTableId": table, "DestinationCidrBlock": ANYWHERE, "GatewayId": loose}
    message = ec2.refused("InvalidParameterValue", "CreateRoute", **members)
    assert message == f"route table {table} and network gateway {loose} belong to different networks"


def test_routes_that_are_not_there(ec2, table, gateway):
    message = ec2.refused("InvalidRoute.NotFound", "DeleteRoute", RouteTableId=table, DestinationCidrBlock=ANYWHERE)
    assert message == f"no route with destination-cidr-block 0.0.0.0/0 in route table {table}"
    message = ec2.refused("InvalidRoute.NotFound", "DeleteRoute", RouteTableId=table, DestinationIpv6CidrBlock="::/0")
    assert message == f"no route with destination-ipv6-cidr-block ::/0 in route table {table}"
    message = ec2.refused("InvalidParameterValue", "DeleteRoute", RouteTableId=table, DestinationCidrBlock="10.0.0.0/16")
    assert message == f"cannot remove local route 10.0.0.0/16 in route table {table}"
    message = ec2.refused(
        "InvalidParameterValue", "ReplaceRoute", RouteTableId=table, DestinationCidrBlock=ANYWHERE, GatewayId=gateway
    )
    assert message == "There is no route defined for '0.0.0.0/0' in the route table. Use CreateRoute instead."


# ----------------------------------------------------------------------------------------------------- Internet gateways


def test_an_internet_gateway(ec2, vpc):
    tags = [{"ResourceType": "internet-gateway", "Tags": [{"Key": "Name", "Value": "out"}]}]
    made = ec2.CreateInternetGateway(TagSpecifications=tags)["InternetGateway"]
    assert re.fullmatch(r"igw-0[0-9a-f]{16}", made["InternetGatewayId"])
    assert (made["Attachments"], made["Tags"]) == ([], [{"Key": "Name", "Value": "out"}])
    both = {"InternetGatewayId": made["InternetGatewayId"], "VpcId": vpc}
    message = ec2.refused("Gateway.NotAttached", "DetachInternetGateway", **both)
    assert message == f"resource {made['InternetGatewayId']} is not attached to network {vpc}"
    ec2.AttachInternetGateway(**both)
    attached = ec2.DescribeInternetGateways(InternetGatewayIds=[made["InternetGatewayId"]])["InternetGateways"][0]
    assert attached["Attachments"] == [{"VpcId": vpc, "State": "available"}]
    for name, value in (("attachment.vpc-id", vpc), ("attachment.state", "available"), ("tag:Name", "out")):
        found = ec2.DescribeInternetGateways(Filters=[{"Name": name, "Values": [value]}])["InternetGateways"]
        assert found == [attached], name
    message = ec2.refused("Resource.AlreadyAssociated", "AttachInternetGateway", **both)
    assert message == f"resource {made['InternetGatewayId']} is already attached to network {vpc}"
    other = ec2.CreateInternetGateway()["InternetGateway"]["InternetGatewayId"]
    message = ec2.refused("InvalidParameterValue", "AttachInternetGateway", InternetGatewayId=other, VpcId=vpc)
    assert message == f"Network {vpc} already has an internet gateway attached"
    message = ec2.refused("DependencyViolation", "DeleteInternetGateway", InternetGatewayId=made["InternetGatewayId"])
    assert message == f"The internetGateway '{made['InternetGatewayId']}' has dependencies and cannot be deleted."
    ec2.refused("DependencyViolation", "DeleteVpc", VpcId=vpc)
    ec2.DetachInternetGateway(**both)
    for gateway in (other, made["InternetGatewayId"]):
        ec2.DeleteInternetGateway(InternetGatewayId=gateway)
    assert ec2.DescribeTags()["Tags"] == ec2.DescribeInternetGateways()["InternetGateways"] == []
    message = ec2.refused("InvalidInternetGatewayID.NotFound", "DeleteInternetGateway", InternetGatewayId=other)
    assert message == f"The internetGateway ID '{other}' does not exist"


def test_the_default_vpc_has_a_way_out(ec2):
    ensure_default_vpc(ec2.database, "us-east-1")
    (vpc,) = ec2.DescribeVpcs()["Vpcs"]
    (gateway,) = ec2.DescribeInternetGateways()["InternetGateways"]
    assert gateway["Attachments"] == [{"VpcId": vpc["VpcId"], "State": "available"}]
    table = main(ec2, vpc["VpcId"])
    assert routes(ec2, table["RouteTableId"])[ANYWHERE] == (gateway["InternetGatewayId"], "active")


def test_a_default_vpc_anew(ec2, vpc):
    made = ec2.CreateDefaultVpc()["Vpc"]
    assert (made["IsDefault"], made["CidrBlock"]) == (True, "172.31.0.0/16")
    subnets = ec2.DescribeSubnets(Filters=[{"Name": "vpc-id", "Values": [made["VpcId"]]}])["Subnets"]
    assert len(subnets) == 3
    message = ec2.refused("DefaultVpcAlreadyExists", "CreateDefaultVpc")
    assert message == "A Default VPC already exists for this account in this region."
