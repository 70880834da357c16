"""NAT gateways, elastic addresses and VPC endpoints; the handlers called directly."""

import ipaddress
import json
import re

import pytest

from phalanx.jobs import interfaces
from phalanx.services.ec2 import addresses, nat_gateways
from phalanx.store.network import NatGateway

S3 = "com.amazonaws.us-east-1.s3"


@pytest.fixture
def subnet(ec2, vpc):
    return ec2.CreateSubnet(VpcId=vpc, CidrBlock="10.0.1.0/28")["Subnet"]["SubnetId"]


@pytest.fixture
def allocation(ec2):
    return ec2.AllocateAddress(Domain="vpc")["AllocationId"]


@pytest.fixture
def gateway(ec2, vpc):
    made = ec2.CreateInternetGateway()["InternetGateway"]["InternetGatewayId"]
    ec2.AttachInternetGateway(InternetGatewayId=made, VpcId=vpc)
    return made


@pytest.fixture
def table(ec2, vpc):
    return ec2.CreateRouteTable(VpcId=vpc)["RouteTable"]["RouteTableId"]


def enis(ec2, **members):
    return ec2.DescribeNetworkInterfaces(**members)["NetworkInterfaces"]


# ---------------------------------------------------------------------------------------------------- Elastic addresses


def test_an_elastic_address(ec2):
    tags = [{"ResourceType": "elastic-ip", "Tags": [{"Key": "for", "Value": "nat"}]}]
    made = ec2.AllocateAddress(Domain="vpc", TagSpecifications=tags)
    assert re.fullmatch(r"eipalloc-0[0-9a-f]{16}", made["AllocationId"])
    assert (made["Domain"], made["PublicIp"]) == ("vpc", "203.0.113.1")
    other = ec2.AllocateAddress()
    assert other["PublicIp"] == "203.0.113.2"
    (found,) = ec2.DescribeAddresses(AllocationIds=[made["AllocationId"]])["Addresses"]
    assert found["Tags"] == [{"Key": "for", "Value": "nat"}]
    assert "AssociationId" not in found
    for members in (
        {"PublicIps": [made["PublicIp"]]},
        {"Filters": [{"Name": "public-ip", "Values": [made["PublicIp"]]}]},
        {"Filters": [{"Name": "allocation-id", "Values": [made["AllocationId"]]}]},
        {"Filters": [{"Name": "tag:for", "Values": ["nat"]}]},
    ):
        assert ec2.DescribeAddresses(**members)["Addresses"] == [found]
    (attribute,) = ec2.DescribeAddressesAttribute(AllocationIds=[made["AllocationId"]], Attribute="domain-name")["Addresses"]
    assert attribute == {"AllocationId": made["AllocationId"], "PublicIp": made["PublicIp"]}
    ec2.ReleaseAddress(AllocationId=made["AllocationId"])
    ec2.ReleaseAddress(PublicIp=other["PublicIp"])
    assert ec2.DescribeAddresses()["Addresses"] == ec2.DescribeTags()["Tags"] == []
    message = ec2.refused("InvalidAllocationID.NotFound", "ReleaseAddress", AllocationId=made["AllocationId"])
    assert message == f"The allocation ID '{made['AllocationId']}' does not exist"
    message = ec2.refused("InvalidAddress.NotFound", "ReleaseAddress", PublicIp="203.0.113.9")
    assert message == "Address '203.0.113.9' not found."
    ec2.refused("InvalidAddress.NotFound", "DescribeAddresses", PublicIps=["203.0.113.9"])
    ec2.refused("MissingParameter", "ReleaseAddress")
    ec2.refused("UnsupportedOperation", "AllocateAddress", Address="198.51.100.1")
    ec2.refused("UnsupportedOperation", "AllocateAddress", Domain="standard")
    ec2.refused("UnsupportedOperation", "AllocateAddress", NetworkBorderGroup="us-east-1-bos-1")


def test_addresses_run_out(ec2, monkeypatch):
    monkeypatch.setattr(addresses, "POOL", ipaddress.IPv4Network("203.0.113.0/30"))
    first, _ = ec2.AllocateAddress(), ec2.AllocateAddress()
    ec2.refused("AddressLimitExceeded", "AllocateAddress")
    ec2.ReleaseAddress(AllocationId=first["AllocationId"])
    assert ec2.AllocateAddress()["PublicIp"] == first["PublicIp"]


# --------------------------------------------------------------------------------------------------------- NAT gateways


def test_a_public_nat_gateway(ec2, vpc, subnet, table, gateway, allocation):
    tags = [{"ResourceType": "natgateway", "Tags": [{"Key": "Name", "Value": "out"}]}]
    made = ec2.CreateNatGateway(SubnetId=subnet, AllocationId=allocation, TagSpecifications=tags)["NatGateway"]
    assert re.fullmatch(r"nat-0[0-9a-f]{16}", made["NatGatewayId"])
    assert (made["VpcId"], made["SubnetId"], made["State"]) == (vpc, subnet, "available")
    assert made["AvailabilityMode"] == "zonal"
    assert (made["ConnectivityType"], made["Tags"]) == ("public", [{"Key": "Name", "Value": "out"}])
    (address,) = made["NatGatewayAddresses"]
    assert (address["AllocationId"], address["PublicIp"]) == (allocation, "203.0.113.1")
    assert (address["PrivateIp"], address["IsPrimary"]) == ("10.0.1.4", True)
    (interface,) = enis(ec2)
    assert interface["NetworkInterfaceId"] == address["NetworkInterfaceId"]
    assert (interface["InterfaceType"], interface["Groups"]) == ("nat_gateway", [])
    assert interface["Description"] == f"Interface for NAT Gateway {made['NatGatewayId']}"
    assert enis(ec2, Filters=[{"Name": "interface-type", "Values": ["nat_gateway"]}]) == [interface]
    assert ec2.DescribeSubnets()["Subnets"][0]["AvailableIpAddressCount"] == 10
    (eip,) = ec2.DescribeAddresses()["Addresses"]
    assert (eip["AssociationId"], eip["PrivateIpAddress"]) == (address["AssociationId"], "10.0.1.4")
    for name, value in (("vpc-id", vpc), ("subnet-id", subnet), ("state", "available"), ("tag:Name", "out")):
        assert ec2.DescribeNatGateways(Filter=[{"Name": name, "Values": [value]}])["NatGateways"] == [made], name

    ec2.CreateRoute(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", NatGatewayId=made["NatGatewayId"])
    ec2.refused("InvalidIPAddress.InUse", "ReleaseAddress", AllocationId=allocation)
    assert made["NatGatewayId"] in ec2.refused("AuthFailure", "DisassociateAddress", AssociationId=eip["AssociationId"])
    ec2.refused("InvalidParameterValue", "DisassociateAddress", PublicIp=eip["PublicIp"])
    ec2.refused("MissingParameter", "DisassociateAddress")
    ec2.refused("Resource.AlreadyAssociated", "CreateNatGateway", SubnetId=subnet, AllocationId=allocation)
    ec2.refused("DependencyViolation", "DetachInternetGateway", InternetGatewayId=gateway, VpcId=vpc)
    ec2.refused("DependencyViolation", "DeleteSubnet", SubnetId=subnet)

    assert ec2.DeleteNatGateway(NatGatewayId=made["NatGatewayId"]) == {"NatGatewayId": made["NatGatewayId"]}
    (gone,) = ec2.DescribeNatGateways(NatGatewayIds=[made["NatGatewayId"]])["NatGateways"]
    assert (gone["State"], "DeleteTime" in gone, gone["SubnetId"]) == ("deleted", True, subnet)
    (_, route) = ec2.DescribeRouteTables(RouteTableIds=[table])["RouteTables"][0]["Routes"]
    assert (route["NatGatewayId"], route["State"]) == (made["NatGatewayId"], "blackhole")
    assert enis(ec2) == []
    message = ec2.refused("InvalidAssociationID.NotFound", "DisassociateAddress", AssociationId=eip["AssociationId"])
    assert message == f"The association ID '{eip['AssociationId']}' does not exist"
    ec2.refused(
        "NatGatewayNotFound",
        "ReplaceRoute",
        RouteTableId=table,
        DestinationCidrBlock="0.0.0.0/0",
        NatGatewayId=made["NatGatewayId"],
    )
    ec2.ReleaseAddress(AllocationId=allocation)
    ec2.DetachInternetGateway(InternetGatewayId=gateway, VpcId=vpc)
    ec2.DeleteSubnet(SubnetId=subnet)


def test_a_deleted_nat_gateway_is_forgotten_after_an_hour(ec2, subnet):
    made = ec2.CreateNatGateway(SubnetId=subnet, ConnectivityType="private")["NatGateway"]["NatGatewayId"]
    ec2.CreateTags(Resources=[made], Tags=[{"Key": "a", "Value": "b"}])
    ec2.DeleteNatGateway(NatGatewayId=made)
    with ec2.database.write() as session:
        session.get_one(NatGateway, made).deleted -= nat_gateways.SHOWN_AFTER_DELETION
    assert ec2.DescribeNatGateways()["NatGateways"] == []
    ec2.CreateNatGateway(SubnetId=subnet, ConnectivityType="private")
    ec2.refused("NatGatewayNotFound", "DescribeNatGateways", NatGatewayIds=[made])
    assert ec2.DescribeTags()["Tags"] == []


def test_a_private_nat_gateway_at_an_address(ec2, subnet, group):
    members = {"SubnetId": subnet, "ConnectivityType": "private"}
    made = ec2.CreateNatGateway(**members, PrivateIpAddress="10.0.1.5")["NatGateway"]
    assert made["NatGatewayAddresses"][0]["PrivateIp"] == "10.0.1.5"
    assert "PublicIp" not in made["NatGatewayAddresses"][0]
    with ec2.database.write() as session:
        allocated = interfaces.allocate(session, "job", ["algo-1", "algo-2"], [subnet], [group])
    assert [eni.address for eni in allocated] == ["10.0.1.4", "10.0.1.6"], "an instance never gets a gateway's address"
    for taken in ("10.0.1.5", "10.0.1.4", "10.0.1.1", "10.0.1.15"):
        ec2.refused("InvalidIPAddress.InUse", "CreateNatGateway", **members, PrivateIpAddress=taken)
    for outside in ("10.0.2.5", "ten"):
        ec2.refused("InvalidParameterValue", "CreateNatGateway", **members, PrivateIpAddress=outside)
    with ec2.database.write() as session:
        interfaces.allocate(session, "rest", [f"algo-{number}" for number in range(8)], [subnet], [group])
    ec2.refused("InsufficientFreeAddressesInSubnet", "CreateNatGateway", **members)


def test_nat_gateways_that_are_refused(ec2, vpc, subnet, allocation):
    def refused(code, **members):
        return ec2.refused(code, "CreateNatGateway", **members)

    message = refused("Gateway.NotAttached", SubnetId=subnet, AllocationId=allocation)
    assert message == f"Network {vpc} has no Internet gateway attached"
    refused("MissingParameter", SubnetId=subnet)
    refused("MissingParameter", AllocationId=allocation)
    refused("InvalidSubnetID.NotFound", SubnetId="subnet-12345678", AllocationId=allocation)
    refused("InvalidAllocationID.NotFound", SubnetId=subnet, AllocationId="eipalloc-12345678")
    refused("InvalidParameterCombination", SubnetId=subnet, AllocationId=allocation, ConnectivityType="private")
    refused("UnsupportedOperation", SubnetId=subnet, AllocationId=allocation, SecondaryPrivateIpAddressCount=1)
    ec2.refused("NatGatewayNotFound", "DeleteNatGateway", NatGatewayId="nat-12345678")


def test_a_repeated_request_makes_nothing_again(ec2, subnet):
    members = {"SubnetId": subnet, "ConnectivityType": "private", "ClientToken": "t-1"}
    first = ec2.CreateNatGateway(**members)
    assert first["ClientToken"] == "t-1"
    assert ec2.CreateNatGateway(**members) == first
    assert len(ec2.DescribeNatGateways()["NatGateways"]) == 1
    message = ec2.refused("IdempotentParameterMismatch", "CreateNatGateway", **{**members, "PrivateIpAddress": "10.0.1.9"})
    assert "t-1" in message
    ec2.refused("InvalidParameterValue", "CreateNatGateway", **{**members, "ClientToken": "t" * 65})
    other = ec2.CreateNatGateway(**{**members, "ClientToken": "t-2"})
    assert other["NatGateway"]["NatGatewayId"] != first["NatGateway"]["NatGatewayId"]


def test_a_refused_request_does_not_use_up_its_token(ec2, subnet, gateway):
    members = {"SubnetId": subnet, "AllocationId": "eipalloc-12345678", "ClientToken": "t-1"}
    ec2.refused("InvalidAllocationID.NotFound", "CreateNatGateway", **members)
    ec2.CreateNatGateway(**{**members, "AllocationId": ec2.AllocateAddress()["AllocationId"]})


def test_a_token_belongs_to_its_operation(ec2, vpc):
    table = ec2.CreateRouteTable(VpcId=vpc, ClientToken="t")["RouteTable"]
    assert ec2.CreateRouteTable(VpcId=vpc, ClientToken="t")["RouteTable"] == table
    members = {"PrefixListName": "a", "AddressFamily": "IPv4", "MaxEntries": 1, "ClientToken": "t"}
    assert ec2.CreateManagedPrefixList(**members) == ec2.CreateManagedPrefixList(**members)
    ec2.refused("IdempotentParameterMismatch", "CreateManagedPrefixList", **{**members, "MaxEntries": 2})


# -------------------------------------------------------------------------------------------------------- VPC endpoints


def test_the_services_that_endpoints_reach(ec2):
    answer = ec2.DescribeVpcEndpointServices()
    assert answer["ServiceNames"] == [S3]
    kinds = {detail["ServiceType"][0]["ServiceType"] for detail in answer["ServiceDetails"]}
    assert kinds == {"Gateway", "Interface"}
    gateway = ec2.DescribeVpcEndpointServices(ServiceNames=[S3], Filters=[{"Name": "service-type", "Values": ["Gateway"]}])[
        "ServiceDetails"
    ]
    assert [detail["AvailabilityZones"][0] for detail in gateway] == ["us-east-1a"]
    assert ec2.DescribeVpcEndpointServices(ServiceRegions=["eu-west-1"])["ServiceDetails"] == []
    message = ec2.refused("InvalidServiceName", "DescribeVpcEndpointServices", ServiceNames=["com.amazonaws.us-east-1.sqs"])
    assert message == "The Vpc Endpoint Service 'com.amazonaws.us-east-1.sqs' does not exist"


def test_a_gateway_endpoint(ec2, vpc, table):
    tags = [{"ResourceType": "vpc-endpoint", "Tags": [{"Key": "Name", "Value": "s3"}]}]
    made = ec2.CreateVpcEndpoint(VpcId=vpc, ServiceName=S3, RouteTableIds=[table], TagSpecifications=tags)["VpcEndpoint"]
    assert re.fullmatch(r"vpce-0[0-9a-f]{16}", made["VpcEndpointId"])
    assert (made["VpcEndpointType"], made["State"], made["ServiceName"]) == ("Gateway", "available", S3)
    assert (made["RouteTableIds"], made["SubnetIds"], made["Groups"]) == ([table], [], [])
    assert json.loads(made["PolicyDocument"])["Statement"][0]["Effect"] == "Allow"
    prefix_list = ec2.DescribePrefixLists()["PrefixLists"][0]["PrefixListId"]
    (_, route) = ec2.DescribeRouteTables(RouteTableIds=[table])["RouteTables"][0]["Routes"]
    assert (route["DestinationPrefixListId"], route["GatewayId"]) == (prefix_list, made["VpcEndpointId"])
    for name, value in (("vpc-id", vpc), ("service-name", S3), ("vpc-endpoint-type", "Gateway"), ("tag:Name", "s3")):
        assert ec2.DescribeVpcEndpoints(Filters=[{"Name": name, "Values": [value]}])["VpcEndpoints"] == [made], name

    members = {"VpcId": vpc, "ServiceName": S3, "RouteTableIds": [table]}
    assert ec2.refused("RouteAlreadyExists", "CreateVpcEndpoint", **members) == (
        f"route table {table} already has a route with destination-prefix-list-id {prefix_list}"
    )
    ec2.refused("InvalidParameterValue", "DeleteRoute", RouteTableId=table, DestinationPrefixListId=prefix_list)
    ec2.refused("DependencyViolation", "DeleteVpc", VpcId=vpc)

    policy = json.dumps({"Version": "2012-10-17", "Statement": []})
    other = ec2.CreateRouteTable(VpcId=vpc)["RouteTable"]["RouteTableId"]
    ec2.ModifyVpcEndpoint(
        VpcEndpointId=made["VpcEndpointId"], AddRouteTableIds=[other], RemoveRouteTableIds=[table], PolicyDocument=policy
    )
    (changed,) = ec2.DescribeVpcEndpoints(VpcEndpointIds=[made["VpcEndpointId"]])["VpcEndpoints"]
    assert (changed["RouteTableIds"], changed["PolicyDocument"]) == ([other], policy)
    ec2.ModifyVpcEndpoint(VpcEndpointId=made["VpcEndpointId"], ResetPolicy=True)
    (changed,) = ec2.DescribeVpcEndpoints()["VpcEndpoints"]
    assert changed["PolicyDocument"] == made["PolicyDocument"]
    ec2.DeleteRouteTable(RouteTableId=other)

    answer = ec2.DeleteVpcEndpoints(VpcEndpointIds=[made["VpcEndpointId"], "vpce-12345678"])
    (failed,) = answer["Unsuccessful"]
    assert (failed["ResourceId"], failed["Error"]["Code"]) == ("vpce-12345678", "InvalidVpcEndpoint.NotFound")
    message = ec2.refused("InvalidVpcEndpointId.NotFound", "DescribeVpcEndpoints", VpcEndpointIds=[made["VpcEndpointId"]])
    assert message == f"The Vpc Endpoint Id '{made['VpcEndpointId']}' does not exist"
    assert ec2.DescribeTags()["Tags"] == []


def test_an_interface_endpoint(ec2, vpc, subnet, group):
    made = ec2.CreateVpcEndpoint(VpcId=vpc, ServiceName=S3, VpcEndpointType="Interface", SubnetIds=[subnet])["VpcEndpoint"]
    assert (made["SubnetIds"], made["RouteTableIds"], made["PrivateDnsEnabled"]) == ([subnet], [], False)
    assert [found["GroupName"] for found in made["Groups"]] == ["default"]
    default = made["Groups"][0]["GroupId"]
    (interface,) = enis(ec2)
    assert [interface["NetworkInterfaceId"]] == made["NetworkInterfaceIds"]
    assert (interface["InterfaceType"], interface["PrivateIpAddress"]) == ("vpc_endpoint", "10.0.1.4")
    assert [found["GroupId"] for found in interface["Groups"]] == [default]

    elsewhere = {"VpcId": vpc, "CidrBlock": "10.0.2.0/28", "AvailabilityZone": "us-east-1b"}
    second = ec2.CreateSubnet(**elsewhere)["Subnet"]["SubnetId"]
    ec2.ModifyVpcEndpoint(
        VpcEndpointId=made["VpcEndpointId"],
        AddSubnetIds=[second, subnet],
        AddSecurityGroupIds=[group],
        RemoveSecurityGroupIds=[default],
    )
    (changed,) = ec2.DescribeVpcEndpoints()["VpcEndpoints"]
    assert (set(changed["SubnetIds"]), [found["GroupId"] for found in changed["Groups"]]) == ({subnet, second}, [group])
    assert [[found["GroupId"] for found in eni["Groups"]] for eni in enis(ec2)] == [[group], [group]]
    ec2.refused("DependencyViolation", "DeleteSecurityGroup", GroupId=group)
    ec2.refused("DependencyViolation", "DeleteSubnet", SubnetId=second)
    ec2.ModifyVpcEndpoint(VpcEndpointId=made["VpcEndpointId"], RemoveSubnetIds=[second, subnet])
    assert enis(ec2) == []
    ec2.refused("DependencyViolation", "DeleteSecurityGroup", GroupId=group)
    members = {"VpcEndpointId": made["VpcEndpointId"], "RemoveSecurityGroupIds": [group]}
    ec2.refused("InvalidParameter", "ModifyVpcEndpoint", **members)
    assert ec2.DeleteVpcEndpoints(VpcEndpointIds=[made["VpcEndpointId"]]) == {"Unsuccessful": []}
    ec2.DeleteSecurityGroup(GroupId=group)


def test_private_names_need_dns_in_the_vpc(ec2, vpc, subnet):
    members = {"VpcId": vpc, "ServiceName": S3, "VpcEndpointType": "Interface", "SubnetIds": [subnet]}
    ec2.refused("InvalidParameter", "CreateVpcEndpoint", **members, PrivateDnsEnabled=True)
    ec2.ModifyVpcAttribute(VpcId=vpc, EnableDnsHostnames={"Value": True})
    made = ec2.CreateVpcEndpoint(**members, PrivateDnsEnabled=True)["VpcEndpoint"]
    assert made["PrivateDnsEnabled"] is True
    ec2.ModifyVpcEndpoint(VpcEndpointId=made["VpcEndpointId"], PrivateDnsEnabled=False)
    assert ec2.DescribeVpcEndpoints()["VpcEndpoints"][0]["PrivateDnsEnabled"] is False


def test_endpoints_that_are_refused(ec2, vpc, subnet, group, table):
    other = ec2.CreateVpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    foreign = ec2.CreateRouteTable(VpcId=other)["RouteTable"]["RouteTableId"]
    same_zone = ec2.CreateSubnet(VpcId=vpc, CidrBlock="10.0.2.0/28")["Subnet"]["SubnetId"]
    foreign_subnet = ec2.CreateSubnet(VpcId=other, CidrBlock="10.0.2.0/28")["Subnet"]["SubnetId"]
    foreign_group = ec2.CreateSecurityGroup(GroupName="a", Description="b", VpcId=other)["GroupId"]

    def refused(code, **members):
        return ec2.refused(code, "CreateVpcEndpoint", **{"VpcId": vpc, "ServiceName": S3, **members})

    interface = {"VpcEndpointType": "Interface"}
    refused("InvalidVpcID.NotFound", VpcId="vpc-12345678")
    refused("InvalidServiceName", ServiceName="com.amazonaws.eu-west-1.s3")
    refused("InvalidParameter", SubnetIds=[subnet])
    refused("InvalidParameter", SecurityGroupIds=[group])
    refused("InvalidParameter", **interface, RouteTableIds=[table])
    refused("InvalidParameter", RouteTableIds=[foreign])
    refused("InvalidRouteTableID.NotFound", RouteTableIds=[table, "rtb-12345678"])
    refused("InvalidSubnetID.NotFound", **interface, SubnetIds=[subnet, "subnet-12345678"])
    refused("InvalidParameter", **interface, SubnetIds=[foreign_subnet])
    refused("DuplicateSubnetsInSameZone", **interface, SubnetIds=[subnet, same_zone])
    refused("InvalidGroup.NotFound", **interface, SecurityGroupIds=[foreign_group])
    more = [ec2.CreateSecurityGroup(GroupName=f"g{n}", Description="d", VpcId=vpc)["GroupId"] for n in range(6)]
    refused("SecurityGroupsPerInterfaceLimitExceeded", **interface, SecurityGroupIds=more)
    refused("InvalidPolicyDocument", PolicyDocument="{")
    refused("InvalidPolicyDocument", PolicyDocument="[]")
    refused("UnsupportedOperation", VpcEndpointType="GatewayLoadBalancer")
    refused("UnsupportedOperation", IpAddressType="dualstack")
    ec2.refused("InvalidVpcEndpointId.NotFound", "ModifyVpcEndpoint", VpcEndpointId="vpce-12345678")
    made = ec2.CreateVpcEndpoint(VpcId=vpc, ServiceName=S3)["VpcEndpoint"]["VpcEndpointId"]
    ec2.refused("InvalidParameter", "ModifyVpcEndpoint", VpcEndpointId=made, AddSubnetIds=[subnet])
