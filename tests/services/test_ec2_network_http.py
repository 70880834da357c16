"""boto3 against a live server: routes, gateways, endpoints, prefix lists, and rules changed in place."""

from concurrent.futures import ThreadPoolExecutor

import boto3
import pytest
from botocore.exceptions import ClientError

TAGS = [{"Key": "Name", "Value": "a b&<ü"}]


def specification(kind):
    return [{"ResourceType": kind, "Tags": TAGS}]


def code(call, **members):
    with pytest.raises(ClientError) as refusal:
        call(**members)
    assert refusal.value.response["Error"]["Message"]
    return refusal.value.response["Error"]["Code"]


@pytest.fixture
def vpc(client):
    return client.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]


@pytest.fixture
def subnet(client, vpc):
    return client.create_subnet(VpcId=vpc, CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"]


def test_a_private_network_with_a_way_to_s3(client, settings, vpc, subnet):
    gateway = client.create_internet_gateway(TagSpecifications=specification("internet-gateway"))["InternetGateway"]
    gateway = gateway["InternetGatewayId"]
    client.get_waiter("internet_gateway_exists").wait(InternetGatewayIds=[gateway])
    client.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
    allocation = client.allocate_address(Domain="vpc", TagSpecifications=specification("elastic-ip"))["AllocationId"]
    nat = client.create_nat_gateway(SubnetId=subnet, AllocationId=allocation, TagSpecifications=specification("natgateway"))[
        "NatGateway"
    ]["NatGatewayId"]
    client.get_waiter("nat_gateway_available").wait(NatGatewayIds=[nat])
    table = client.create_route_table(VpcId=vpc, TagSpecifications=specification("route-table"))["RouteTable"]
    table = table["RouteTableId"]
    association = client.associate_route_table(RouteTableId=table, SubnetId=subnet)["AssociationId"]
    client.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", NatGatewayId=nat)
    endpoint = client.create_vpc_endpoint(
        VpcId=vpc,
        ServiceName="com.amazonaws.eu-central-1.s3",
        RouteTableIds=[table],
        TagSpecifications=specification("vpc-endpoint"),
    )["VpcEndpoint"]
    assert endpoint["CreationTimestamp"].tzinfo is not None
    options = client.create_dhcp_options(
        DhcpConfigurations=[{"Key": "domain-name", "Values": ["example.com"]}], TagSpecifications=specification("dhcp-options")
    )["DhcpOptions"]["DhcpOptionsId"]
    client.associate_dhcp_options(DhcpOptionsId=options, VpcId=vpc)
    client.modify_vpc_attribute(VpcId=vpc, EnableDnsHostnames={"Value": True})

    resource = boto3.resource("ec2", **settings)
    shown = resource.RouteTable(table).routes_attribute
    routes = {route.get("DestinationCidrBlock") or route["DestinationPrefixListId"]: route for route in shown}
    (prefix_list,) = client.describe_prefix_lists()["PrefixLists"]
    assert {destination: route["State"] for destination, route in routes.items()} == {
        "10.0.0.0/16": "active",
        "0.0.0.0/0": "active",
        prefix_list["PrefixListId"]: "active",
    }
    assert routes["0.0.0.0/0"]["NatGatewayId"] == nat
    assert routes[prefix_list["PrefixListId"]]["GatewayId"] == endpoint["VpcEndpointId"]
    assert resource.Vpc(vpc).describe_attribute(Attribute="enableDnsHostnames")["EnableDnsHostnames"] == {"Value": True}
    assert resource.Vpc(vpc).dhcp_options_id == options
    named = client.describe_tags(Filters=[{"Name": "key", "Values": ["Name"]}])["Tags"]
    assert {tag["Value"] for tag in named} == {"a b&<ü"}
    assert {tag["ResourceId"] for tag in named} == {gateway, allocation, nat, table, endpoint["VpcEndpointId"], options}

    assert code(client.delete_vpc, VpcId=vpc) == "DependencyViolation"
    assert code(client.delete_route_table, RouteTableId=table) == "DependencyViolation"
    assert code(client.delete_internet_gateway, InternetGatewayId=gateway) == "DependencyViolation"
    assert client.delete_vpc_endpoints(VpcEndpointIds=[endpoint["VpcEndpointId"]])["Unsuccessful"] == []
    client.delete_nat_gateway(NatGatewayId=nat)
    client.get_waiter("nat_gateway_deleted").wait(NatGatewayIds=[nat])
    client.release_address(AllocationId=allocation)
    client.disassociate_route_table(AssociationId=association)
    client.delete_route_table(RouteTableId=table)
    client.detach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
    client.delete_internet_gateway(InternetGatewayId=gateway)
    client.delete_subnet(SubnetId=subnet)
    client.delete_vpc(VpcId=vpc)
    client.delete_dhcp_options(DhcpOptionsId=options)
    assert [found["IsDefault"] for found in client.describe_vpcs()["Vpcs"]] == [True]
    resource.meta.client.close()


def test_an_interface_endpoint(client, vpc, subnet):
    endpoint = client.create_vpc_endpoint(
        VpcId=vpc, ServiceName="com.amazonaws.eu-central-1.s3", VpcEndpointType="Interface", SubnetIds=[subnet]
    )["VpcEndpoint"]
    (interface,) = client.describe_network_interfaces(NetworkInterfaceIds=endpoint["NetworkInterfaceIds"])["NetworkInterfaces"]
    assert interface["InterfaceType"] == "vpc_endpoint"
    assert code(client.delete_subnet, SubnetId=subnet) == "DependencyViolation"
    services = client.describe_vpc_endpoint_services()["ServiceDetails"]
    assert {service["ServiceType"][0]["ServiceType"] for service in services} == {"Gateway", "Interface"}


def test_rules_changed_in_place(client, vpc, control):
    group = client.create_security_group(GroupName="g", Description="d", VpcId=vpc)["GroupId"]
    offices = client.create_managed_prefix_list(
        PrefixListName="offices", AddressFamily="IPv4", MaxEntries=3, Entries=[{"Cidr": "10.8.0.0/16"}]
    )["PrefixList"]["PrefixListId"]
    permissions = [
        {"IpProtocol": "50", "PrefixListIds": [{"PrefixListId": offices}]},
        {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "10.1.0.0/16"}]},
    ]
    esp, ssh = client.authorize_security_group_ingress(GroupId=group, IpPermissions=permissions)["SecurityGroupRules"]
    assert esp["PrefixListId"] == offices
    client.modify_security_group_rules(
        GroupId=group,
        SecurityGroupRules=[
            {
                "SecurityGroupRuleId": ssh["SecurityGroupRuleId"],
                "SecurityGroupRule": {"IpProtocol": "udp", "FromPort": 500, "ToPort": 500, "CidrIpv4": "10.1.0.0/16"},
            }
        ],
    )
    client.modify_managed_prefix_list(PrefixListId=offices, CurrentVersion=1, AddEntries=[{"Cidr": "10.9.0.0/16"}])
    client.update_security_group_rule_descriptions_ingress(
        GroupId=group,
        SecurityGroupRuleDescriptions=[{"SecurityGroupRuleId": ssh["SecurityGroupRuleId"], "Description": "ike"}],
    )
    assert control.changed == [vpc] * 3
    found = client.describe_security_group_rules(SecurityGroupRuleIds=[ssh["SecurityGroupRuleId"]])["SecurityGroupRules"][0]
    assert (found["IpProtocol"], found["FromPort"], found["Description"]) == ("udp", 500, "ike")
    pages = client.get_paginator("get_managed_prefix_list_entries").paginate(
        PrefixListId=offices, PaginationConfig={"PageSize": 1}
    )
    assert [entry["Cidr"] for page in pages for entry in page["Entries"]] == ["10.8.0.0/16", "10.9.0.0/16"]
    assert {item["GroupName"] for item in client.get_security_groups_for_vpc(VpcId=vpc)["SecurityGroupForVpcs"]} == {
        "default",
        "g",
    }
    assert client.describe_stale_security_groups(VpcId=vpc)["StaleSecurityGroupSet"] == []
    assert client.describe_security_group_references(GroupId=[group])["SecurityGroupReferenceSet"] == []


@pytest.mark.parametrize(
    ("expected", "operation", "members"),
    [
        ("InvalidRouteTableID.NotFound", "describe_route_tables", {"RouteTableIds": ["rtb-0123456789abcdef0"]}),
        ("InvalidInternetGatewayID.NotFound", "delete_internet_gateway", {"InternetGatewayId": "igw-0123456789abcdef0"}),
        ("NatGatewayNotFound", "describe_nat_gateways", {"NatGatewayIds": ["nat-0123456789abcdef0"]}),
        ("InvalidAllocationID.NotFound", "release_address", {"AllocationId": "eipalloc-0123456789abcdef0"}),
        ("InvalidVpcEndpointId.NotFound", "describe_vpc_endpoints", {"VpcEndpointIds": ["vpce-0123456789abcdef0"]}),
        ("InvalidDhcpOptionID.NotFound", "delete_dhcp_options", {"DhcpOptionsId": "dopt-0123456789abcdef0"}),
        ("InvalidNetworkAclID.NotFound", "describe_network_acls", {"NetworkAclIds": ["acl-0123456789abcdef0"]}),
        ("InvalidPrefixListID.NotFound", "delete_managed_prefix_list", {"PrefixListId": "pl-0123456789abcdef0"}),
        ("InvalidAssociationID.NotFound", "disassociate_route_table", {"AssociationId": "rtbassoc-0123456789abcdef0"}),
        ("DefaultVpcAlreadyExists", "create_default_vpc", {}),
        ("DryRunOperation", "create_internet_gateway", {"DryRun": True}),
    ],
)
def test_errors(client, expected, operation, members):
    assert code(getattr(client, operation), **members) == expected


def test_network_acls(client, vpc, subnet):
    acl = client.create_network_acl(VpcId=vpc)["NetworkAcl"]["NetworkAclId"]
    entries = [
        {"RuleNumber": 100, "Egress": True, "Protocol": "6", "RuleAction": "allow", "PortRange": {"From": 443, "To": 443}},
        {"RuleNumber": 90, "Egress": False, "Protocol": "1", "RuleAction": "deny", "IcmpTypeCode": {"Type": 8, "Code": -1}},
        {"RuleNumber": 100, "Egress": False, "Protocol": "-1", "RuleAction": "allow"},
    ]
    blocks = [{"CidrBlock": "10.0.0.0/8"}, {"CidrBlock": "0.0.0.0/0"}, {"Ipv6CidrBlock": "::/0"}]
    for entry, block in zip(entries, blocks, strict=True):
        client.create_network_acl_entry(NetworkAclId=acl, **entry, **block)
    filters = [{"Name": "association.subnet-id", "Values": [subnet]}]
    (default,) = client.describe_network_acls(Filters=filters)["NetworkAcls"]
    (first,) = [each["NetworkAclAssociationId"] for each in default["Associations"] if each["SubnetId"] == subnet]
    second = client.replace_network_acl_association(AssociationId=first, NetworkAclId=acl)["NewAssociationId"]
    (shown,) = client.describe_network_acls(Filters=filters)["NetworkAcls"]
    assert shown["Associations"] == [{"NetworkAclAssociationId": second, "NetworkAclId": acl, "SubnetId": subnet}]
    known = [{**entry, **block} for entry, block in zip(entries, blocks, strict=True)]
    assert [each for each in shown["Entries"] if each["RuleNumber"] < 32767] == known
    client.replace_network_acl_association(AssociationId=second, NetworkAclId=default["NetworkAclId"])
    client.delete_network_acl(NetworkAclId=acl)


def test_a_client_token(client, vpc):
    first = client.create_route_table(VpcId=vpc, ClientToken="once")
    again = client.create_route_table(VpcId=vpc, ClientToken="once")
    assert (again["RouteTable"], again["ClientToken"]) == (first["RouteTable"], "once")
    default = client.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"][0]["VpcId"]
    assert code(client.create_route_table, VpcId=default, ClientToken="once") == "IdempotentParameterMismatch"


def test_a_client_token_from_many_at_once(client, subnet):
    def create(_):
        made = client.create_nat_gateway(SubnetId=subnet, ConnectivityType="private", ClientToken="once")
        return made["NatGateway"]["NatGatewayId"]

    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(create, range(8)))
    assert {gateway["NatGatewayId"] for gateway in client.describe_nat_gateways()["NatGateways"]} == made
    assert len(made) == 1


@pytest.mark.parametrize(
    ("operation", "key"),
    [
        ("describe_route_tables", "RouteTables"),
        ("describe_internet_gateways", "InternetGateways"),
        ("describe_nat_gateways", "NatGateways"),
        ("describe_vpc_endpoints", "VpcEndpoints"),
        ("describe_dhcp_options", "DhcpOptions"),
        ("describe_network_acls", "NetworkAcls"),
        ("describe_managed_prefix_lists", "PrefixLists"),
        ("get_security_groups_for_vpc", "SecurityGroupForVpcs"),
    ],
)
def test_paginators(client, vpc, subnet, operation, key):
    for number in range(6):
        other = client.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        client.create_vpc_endpoint(VpcId=other, ServiceName="com.amazonaws.eu-central-1.s3")
        client.create_internet_gateway()
        client.create_nat_gateway(SubnetId=subnet, ConnectivityType="private")
        client.create_dhcp_options(DhcpConfigurations=[{"Key": "domain-name", "Values": [str(number)]}])
        client.create_managed_prefix_list(PrefixListName=str(number), AddressFamily="IPv4", MaxEntries=1)
        client.create_security_group(GroupName=str(number), Description="d", VpcId=vpc)
    members = {"VpcId": vpc} if operation == "get_security_groups_for_vpc" else {}
    pages = [page[key] for page in client.get_paginator(operation).paginate(**members, PaginationConfig={"PageSize": 5})]
    assert len(pages) > 1
    assert all(0 < len(page) <= 5 for page in pages)
    assert [item for page in pages for item in page] == getattr(client, operation)(**members)[key]
