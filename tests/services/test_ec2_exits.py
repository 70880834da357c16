"""Where the ways out of a VPC lead, as its route tables, gateways and endpoints are made and changed through EC2's API."""

from ipaddress import IPv4Address, IPv4Network

import pytest

from phalanx.network.model import NO_EXITS, S3_ADDRESS

PRIVATE, PUBLIC = "10.0.1.0/24", "10.0.2.0/24"


class Network:
    """A VPC with a private subnet, a public one, and an internet gateway that the public one's table leads to."""

    def __init__(self, ec2):
        self.ec2 = ec2
        self.vpc = ec2.CreateVpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        self.private, self.public = (
            ec2.CreateSubnet(VpcId=self.vpc, CidrBlock=block)["Subnet"]["SubnetId"] for block in (PRIVATE, PUBLIC)
        )
        self.private_table, self.public_table = (self.table(subnet) for subnet in (self.private, self.public))
        self.gateway = ec2.CreateInternetGateway()["InternetGateway"]["InternetGatewayId"]
        ec2.AttachInternetGateway(InternetGatewayId=self.gateway, VpcId=self.vpc)
        ec2.CreateRoute(RouteTableId=self.public_table, DestinationCidrBlock="0.0.0.0/0", GatewayId=self.gateway)

    def table(self, subnet):
        made = self.ec2.CreateRouteTable(VpcId=self.vpc)["RouteTable"]["RouteTableId"]
        self.ec2.AssociateRouteTable(RouteTableId=made, SubnetId=subnet)
        return made

    def nat(self, subnet, destination="0.0.0.0/0"):
        """A public NAT gateway in a subnet, and a route of the private one to it."""
        allocation = self.ec2.AllocateAddress()["AllocationId"]
        made = self.ec2.CreateNatGateway(SubnetId=subnet, AllocationId=allocation)["NatGateway"]["NatGatewayId"]
        self.ec2.CreateRoute(RouteTableId=self.private_table, DestinationCidrBlock=destination, NatGatewayId=made)
        return made

    def endpoint(self, **members):
        made = self.ec2.CreateVpcEndpoint(VpcId=self.vpc, ServiceName="com.amazonaws.us-east-1.s3", **members)
        return made["VpcEndpoint"]["VpcEndpointId"]

    @property
    def exits(self):
        """As the jobs room was told last."""
        return self.ec2.control.exits[self.vpc]

    def reaches(self, destination):
        return any(subnet == PRIVATE and IPv4Address(destination) in IPv4Network(where) for subnet, where in self.exits.outside)


@pytest.fixture
def network(ec2):
    return Network(ec2)


def test_an_internet_gateway_alone_leads_nowhere_since_jobs_have_no_public_address(network):
    assert network.exits == NO_EXITS


def test_a_gateway_endpoint_leads_to_s3_from_the_subnets_of_its_tables(ec2, network):
    endpoint = network.endpoint(RouteTableIds=[network.private_table])
    assert (network.exits.s3, network.exits.outside, network.exits.names) == ((PRIVATE,), (), ())
    ec2.ModifyVpcEndpoint(VpcEndpointId=endpoint, AddRouteTableIds=[network.public_table])
    assert set(network.exits.s3) == {PRIVATE, PUBLIC}
    ec2.ModifyVpcEndpoint(VpcEndpointId=endpoint, RemoveRouteTableIds=[network.private_table])
    assert network.exits.s3 == (PUBLIC,)
    ec2.DeleteVpcEndpoints(VpcEndpointIds=[endpoint])
    assert network.exits == NO_EXITS


def test_the_main_table_is_that_of_subnets_without_one(ec2, network):
    (main,) = ec2.DescribeRouteTables(
        Filters=[{"Name": "association.main", "Values": ["true"]}, {"Name": "vpc-id", "Values": [network.vpc]}]
    )["RouteTables"]
    network.endpoint(RouteTableIds=[main["RouteTableId"]])
    assert network.exits.s3 == ()
    (table,) = ec2.DescribeRouteTables(RouteTableIds=[network.private_table])["RouteTables"]
    ec2.DisassociateRouteTable(AssociationId=table["Associations"][0]["RouteTableAssociationId"])
    assert network.exits.s3 == (PRIVATE,)


def test_a_nat_gateway_in_a_public_subnet_leads_everywhere_but_into_the_vpc(ec2, network):
    nat = network.nat(network.public)
    assert (network.exits.s3, network.exits.names) == ((PRIVATE,), (PRIVATE,))
    assert network.reaches("8.8.8.8")
    assert network.reaches(S3_ADDRESS)
    assert not network.reaches("10.0.2.9")
    ec2.DeleteNatGateway(NatGatewayId=nat)
    assert network.exits == NO_EXITS


def test_a_nat_gateway_that_is_private_or_in_a_private_subnet_leads_nowhere(ec2, network):
    network.nat(network.private)
    assert network.exits == NO_EXITS
    made = ec2.CreateNatGateway(SubnetId=network.public, ConnectivityType="private")["NatGateway"]["NatGatewayId"]
    ec2.ReplaceRoute(RouteTableId=network.private_table, DestinationCidrBlock="0.0.0.0/0", NatGatewayId=made)
    assert network.exits == NO_EXITS


def test_the_most_specific_route_wins(ec2, network):
    nat = network.nat(network.public)
    ec2.CreateRoute(RouteTableId=network.private_table, DestinationCidrBlock="8.8.0.0/16", GatewayId=network.gateway)
    assert not network.reaches("8.8.8.8")
    assert network.reaches("8.9.8.8")
    ec2.CreateRoute(RouteTableId=network.private_table, DestinationCidrBlock="8.8.8.0/24", NatGatewayId=nat)
    assert network.reaches("8.8.8.8")
    ec2.DeleteRoute(RouteTableId=network.private_table, DestinationCidrBlock="0.0.0.0/0")
    assert not network.reaches("8.9.8.8")
    assert network.exits.s3 == ()


def test_routes_follow_a_prefix_list_and_the_internet_gateway(ec2, network):
    nat = network.nat(network.public, destination="8.0.0.0/8")
    offices = ec2.CreateManagedPrefixList(PrefixListName="offices", AddressFamily="IPv4", MaxEntries=2)["PrefixList"]
    list_id = offices["PrefixListId"]
    ec2.CreateRoute(RouteTableId=network.private_table, DestinationPrefixListId=list_id, NatGatewayId=nat)
    assert not network.reaches("9.9.9.9")
    ec2.control.changed.clear()
    ec2.ModifyManagedPrefixList(PrefixListId=list_id, CurrentVersion=1, AddEntries=[{"Cidr": "9.9.0.0/16"}])
    assert [vpc for vpc, _ in ec2.control.changed] == [network.vpc]
    assert network.reaches("9.9.9.9")
    ec2.DeleteRoute(RouteTableId=network.public_table, DestinationCidrBlock="0.0.0.0/0")
    assert network.exits == NO_EXITS


def test_names_need_the_vpcs_own_server(ec2, network):
    network.nat(network.public)
    ec2.ModifyVpcAttribute(VpcId=network.vpc, EnableDnsSupport={"Value": False})
    assert network.exits.names == ()
    ec2.ModifyVpcAttribute(VpcId=network.vpc, EnableDnsSupport={"Value": True})
    assert network.exits.names == (PRIVATE,)
    own = [{"Key": "domain-name-servers", "Values": ["10.0.0.9"]}]
    options = ec2.CreateDhcpOptions(DhcpConfigurations=own)["DhcpOptions"]["DhcpOptionsId"]
    ec2.AssociateDhcpOptions(VpcId=network.vpc, DhcpOptionsId=options)
    assert network.exits.names == ()


def test_an_interface_endpoint_has_addresses_and_groups(ec2, network):
    group = ec2.CreateSecurityGroup(GroupName="endpoint", Description="d", VpcId=network.vpc)["GroupId"]
    endpoint = network.endpoint(VpcEndpointType="Interface", SubnetIds=[network.private], SecurityGroupIds=[group])
    (eni,) = network.exits.endpoints
    assert (eni.address, eni.groups) == ("10.0.1.4", (group,))
    assert network.exits.s3 == ()
    ec2.DeleteVpcEndpoints(VpcEndpointIds=[endpoint])
    assert network.exits == NO_EXITS


def test_each_change_of_the_ways_out_concerns_its_own_vpc_alone(ec2, network):
    """Its caller waits until it is in force there, and for no host of another VPC."""
    other = Network(ec2)

    def concerned(operation, **members):
        ec2.control.changed.clear()
        response = getattr(ec2, operation)(**members)
        return [vpc for vpc, _ in ec2.control.changed], response

    def change(operation, **members):
        told, response = concerned(operation, **members)
        assert told == [network.vpc], operation
        return response

    table = ec2.CreateRouteTable(VpcId=network.vpc)["RouteTable"]["RouteTableId"]
    subnet = ec2.CreateSubnet(VpcId=network.vpc, CidrBlock="10.0.3.0/24")["Subnet"]["SubnetId"]
    made = change("AssociateRouteTable", RouteTableId=table, SubnetId=subnet)["AssociationId"]
    made = change("ReplaceRouteTableAssociation", AssociationId=made, RouteTableId=network.public_table)["NewAssociationId"]
    change("DisassociateRouteTable", AssociationId=made)
    route = {"RouteTableId": table, "DestinationCidrBlock": "0.0.0.0/0"}
    change("CreateRoute", GatewayId=network.gateway, **route)
    change("ReplaceRoute", GatewayId=network.gateway, **route)
    change("DeleteRoute", **route)
    asked = {"SubnetId": network.public, "ConnectivityType": "private", "ClientToken": "once"}
    nat = change("CreateNatGateway", **asked)["NatGateway"]["NatGatewayId"]
    # A service that died before the fleet was told is asked a second time.
    change("CreateNatGateway", **asked)
    change("DeleteNatGateway", NatGatewayId=nat)
    change("DetachInternetGateway", InternetGatewayId=network.gateway, VpcId=network.vpc)
    change("AttachInternetGateway", InternetGatewayId=network.gateway, VpcId=network.vpc)
    service = {"VpcId": network.vpc, "ServiceName": "com.amazonaws.us-east-1.s3"}
    endpoint = change("CreateVpcEndpoint", **service)["VpcEndpoint"]["VpcEndpointId"]
    change("ModifyVpcEndpoint", VpcEndpointId=endpoint, AddRouteTableIds=[table])
    both, _ = concerned("DeleteVpcEndpoints", VpcEndpointIds=[endpoint, other.endpoint(), "vpce-0123456789abcdef0"])
    assert sorted(both) == sorted([network.vpc, other.vpc])
    change("ModifyVpcAttribute", VpcId=network.vpc, EnableDnsSupport={"Value": False})
    change("AssociateDhcpOptions", VpcId=network.vpc, DhcpOptionsId="default")
