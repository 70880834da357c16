"""DHCP options, VPC attributes, network ACLs, account and regions; the handlers called directly."""

import re

import pytest


def configuration(name, *values):
    return {"Key": name, "Values": list(values)}


def test_every_vpc_has_the_default_options(ec2, vpc):
    (options,) = ec2.DescribeDhcpOptions()["DhcpOptions"]
    assert ec2.DescribeVpcs()["Vpcs"][0]["DhcpOptionsId"] == options["DhcpOptionsId"]
    assert options["DhcpConfigurations"] == [
        {"Key": "domain-name", "Values": [{"Value": "ec2.internal"}]},
        {"Key": "domain-name-servers", "Values": [{"Value": "AmazonProvidedDNS"}]},
    ]
    ec2.CreateVpc(CidrBlock="10.9.0.0/16")
    assert len(ec2.DescribeDhcpOptions()["DhcpOptions"]) == 1


def test_other_options(ec2, vpc):
    (default,) = ec2.DescribeDhcpOptions()["DhcpOptions"]
    made = ec2.CreateDhcpOptions(
        DhcpConfigurations=[configuration("domain-name-servers", "10.2.5.1", "10.2.5.2")],
        TagSpecifications=[{"ResourceType": "dhcp-options", "Tags": [{"Key": "a", "Value": "b"}]}],
    )["DhcpOptions"]
    assert re.fullmatch(r"dopt-0[0-9a-f]{16}", made["DhcpOptionsId"])
    assert made["DhcpConfigurations"][0]["Values"] == [{"Value": "10.2.5.1"}, {"Value": "10.2.5.2"}]
    for name, value in (("value", "10.2.5.2"), ("dhcp-options-id", made["DhcpOptionsId"]), ("tag:a", "b")):
        assert ec2.DescribeDhcpOptions(Filters=[{"Name": name, "Values": [value]}])["DhcpOptions"] == [made], name
    ec2.AssociateDhcpOptions(VpcId=vpc, DhcpOptionsId=made["DhcpOptionsId"])
    filters = [{"Name": "dhcp-options-id", "Values": [made["DhcpOptionsId"]]}]
    assert [found["VpcId"] for found in ec2.DescribeVpcs(Filters=filters)["Vpcs"]] == [vpc]
    message = ec2.refused("DependencyViolation", "DeleteDhcpOptions", DhcpOptionsId=made["DhcpOptionsId"])
    assert message == f"The dhcpOptions '{made['DhcpOptionsId']}' has dependencies and cannot be deleted."
    ec2.AssociateDhcpOptions(VpcId=vpc, DhcpOptionsId="default")
    assert ec2.DescribeVpcs()["Vpcs"][0]["DhcpOptionsId"] == "default"
    for options in (made, default):
        ec2.DeleteDhcpOptions(DhcpOptionsId=options["DhcpOptionsId"])
    assert ec2.DescribeTags()["Tags"] == []
    message = ec2.refused("InvalidDhcpOptionID.NotFound", "AssociateDhcpOptions", VpcId=vpc, DhcpOptionsId="dopt-12345678")
    assert message == "The dhcpOption ID 'dopt-12345678' does not exist"


@pytest.mark.parametrize(
    ("code", "configurations"),
    [
        ("MissingParameter", []),
        ("InvalidParameterValue", [configuration("colour", "red")]),
        ("InvalidParameterValue", [configuration("domain-name")]),
        ("InvalidParameterValue", [configuration("domain-name", "a", "b")]),
        ("InvalidParameterValue", [configuration("domain-name", "a")] * 2),
        ("InvalidParameterValue", [configuration("netbios-node-type", "3")]),
    ],
)
def test_options_that_are_refused(ec2, code, configurations):
    ec2.refused(code, "CreateDhcpOptions", DhcpConfigurations=configurations)


def test_the_attributes_of_a_vpc(ec2, vpc):
    def value(vpc_id, attribute):
        answer = ec2.DescribeVpcAttribute(VpcId=vpc_id, Attribute=attribute)
        assert answer.pop("VpcId") == vpc_id
        (found,) = answer.values()
        return found["Value"]

    default = ec2.CreateDefaultVpc()["Vpc"]["VpcId"]
    names = ("enableDnsSupport", "enableDnsHostnames", "enableNetworkAddressUsageMetrics")
    assert [value(vpc, name) for name in names] == [True, False, False]
    assert [value(default, name) for name in names] == [True, True, False]
    assert ec2.ModifyVpcAttribute(VpcId=vpc, EnableDnsHostnames={"Value": True}) == {}
    ec2.ModifyVpcAttribute(VpcId=vpc, EnableDnsSupport={"Value": False})
    assert [value(vpc, name) for name in names] == [False, True, False]
    both = {"EnableDnsSupport": {"Value": True}, "EnableDnsHostnames": {"Value": True}}
    message = ec2.refused("InvalidParameterCombination", "ModifyVpcAttribute", VpcId=vpc, **both)
    assert message == "Fields for multiple attribute types specified"
    ec2.refused("MissingParameter", "ModifyVpcAttribute", VpcId=vpc)
    ec2.refused("InvalidVpcID.NotFound", "DescribeVpcAttribute", VpcId="vpc-12345678", Attribute="enableDnsSupport")
    ec2.refused("InvalidParameterValue", "DescribeVpcAttribute", VpcId=vpc, Attribute="colour")


def test_the_default_acl(ec2, vpc):
    subnet = ec2.CreateSubnet(VpcId=vpc, CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"]
    ec2.CreateVpc(CidrBlock="10.9.0.0/16")
    filters = [{"Name": "vpc-id", "Values": [vpc]}, {"Name": "default", "Values": ["true"]}]
    (acl,) = ec2.DescribeNetworkAcls(Filters=filters)["NetworkAcls"]
    assert re.fullmatch(r"acl-0[0-9a-f]{16}", acl["NetworkAclId"])
    assert [association["SubnetId"] for association in acl["Associations"]] == [subnet]
    assert [(entry["Egress"], entry["RuleNumber"], entry["RuleAction"]) for entry in acl["Entries"]] == [
        (True, 100, "allow"),
        (True, 32767, "deny"),
        (False, 100, "allow"),
        (False, 32767, "deny"),
    ]
    filters = [{"Name": "association.subnet-id", "Values": [subnet]}]
    assert ec2.DescribeNetworkAcls(Filters=filters)["NetworkAcls"] == [acl]
    ec2.CreateTags(Resources=[acl["NetworkAclId"]], Tags=[{"Key": "a", "Value": "b"}])
    (tagged,) = ec2.DescribeNetworkAcls(NetworkAclIds=[acl["NetworkAclId"]])["NetworkAcls"]
    assert tagged["Tags"] == [{"Key": "a", "Value": "b"}]
    ec2.refused("InvalidNetworkAclID.NotFound", "DescribeNetworkAcls", NetworkAclIds=["acl-12345678"])


def test_the_account(ec2, vpc):
    def attributes(**members):
        found = ec2.DescribeAccountAttributes(**members)["AccountAttributes"]
        return {item["AttributeName"]: item["AttributeValues"][0]["AttributeValue"] for item in found}

    assert attributes()["supported-platforms"] == "VPC"
    assert attributes(AttributeNames=["default-vpc"]) == {"default-vpc": "none"}
    default = ec2.CreateDefaultVpc()["Vpc"]["VpcId"]
    assert attributes(AttributeNames=["default-vpc"]) == {"default-vpc": default}
    ec2.refused("InvalidParameterValue", "DescribeAccountAttributes", AttributeNames=["colour"])


def test_regions(ec2):
    regions = ec2.DescribeRegions()["Regions"]
    assert {"us-east-1", "eu-central-1"} <= {region["RegionName"] for region in regions}
    (one,) = ec2.DescribeRegions(RegionNames=["eu-west-1"])["Regions"]
    assert one["Endpoint"] == "ec2.eu-west-1.amazonaws.com"
    filtered = ec2.DescribeRegions(Filters=[{"Name": "region-name", "Values": ["eu-west-*"]}])["Regions"]
    assert one in filtered
    assert len(filtered) < len(regions)
    ec2.refused("InvalidParameterValue", "DescribeRegions", RegionNames=["mars-north-1"])


def test_tags_on_everything(ec2, vpc):
    subnet = ec2.CreateSubnet(VpcId=vpc, CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"]
    made = {
        "route-table": ec2.CreateRouteTable(VpcId=vpc)["RouteTable"]["RouteTableId"],
        "internet-gateway": ec2.CreateInternetGateway()["InternetGateway"]["InternetGatewayId"],
        "elastic-ip": ec2.AllocateAddress()["AllocationId"],
        "natgateway": ec2.CreateNatGateway(SubnetId=subnet, ConnectivityType="private")["NatGateway"]["NatGatewayId"],
        "vpc-endpoint": ec2.CreateVpcEndpoint(VpcId=vpc, ServiceName="com.amazonaws.us-east-1.s3")["VpcEndpoint"][
            "VpcEndpointId"
        ],
        "dhcp-options": ec2.DescribeDhcpOptions()["DhcpOptions"][0]["DhcpOptionsId"],
        "network-acl": ec2.DescribeNetworkAcls()["NetworkAcls"][0]["NetworkAclId"],
        "prefix-list": ec2.CreateManagedPrefixList(PrefixListName="a", AddressFamily="IPv4", MaxEntries=1)["PrefixList"][
            "PrefixListId"
        ],
        "vpc": vpc,
        "subnet": subnet,
        "network-interface": ec2.DescribeNetworkInterfaces()["NetworkInterfaces"][0]["NetworkInterfaceId"],
    }
    ec2.CreateTags(Resources=list(made.values()), Tags=[{"Key": "Name", "Value": "n"}])
    found = {tag["ResourceType"]: tag["ResourceId"] for tag in ec2.DescribeTags()["Tags"]}
    assert found == made
    ec2.DeleteTags(Resources=list(made.values()))
    assert ec2.DescribeTags()["Tags"] == []
