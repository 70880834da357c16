"""The AWS CLI against a live server: the documented procedure for encrypted jobs, as one types it."""

import pytest


@pytest.fixture
def vpc(aws):
    return aws("aws ec2 create-vpc --cidr-block 10.0.0.0/16")["Vpc"]["VpcId"]


def test_the_group_of_encrypted_jobs(aws, vpc, control):
    """SageMaker's manual: "inbound and outbound … UDP 500, ESP 50", source and destination the group itself."""
    group = aws(f'aws ec2 create-security-group --group-name training --description "encrypted jobs" --vpc-id {vpc}')["GroupId"]
    aws(f"aws ec2 authorize-security-group-ingress --group-id {group} --protocol udp --port 500 --source-group {group}")
    esp = f"IpProtocol=50,UserIdGroupPairs=[{{GroupId={group}}}]"
    ike = f"IpProtocol=udp,FromPort=500,ToPort=500,UserIdGroupPairs=[{{GroupId={group}}}]"
    answer = aws(f"aws ec2 authorize-security-group-ingress --group-id {group} --ip-permissions {esp}")
    assert answer["Return"] is True
    aws(f"aws ec2 authorize-security-group-egress --group-id {group} --ip-permissions {ike} {esp}")
    aws(f"aws ec2 revoke-security-group-egress --group-id {group} --protocol all --cidr 0.0.0.0/0")
    assert control.changed == [vpc] * 4

    (shown,) = aws(f"aws ec2 describe-security-groups --group-ids {group}")["SecurityGroups"]
    pairs = [{"UserId": "123456789012", "GroupId": group}]
    empty = {"IpRanges": [], "Ipv6Ranges": [], "PrefixListIds": []}
    expected = [
        {"IpProtocol": "udp", "FromPort": 500, "ToPort": 500, "UserIdGroupPairs": pairs, **empty},
        {"IpProtocol": "50", "UserIdGroupPairs": pairs, **empty},
    ]
    assert shown["IpPermissions"] == shown["IpPermissionsEgress"] == expected

    listed = aws(f"aws ec2 describe-security-group-rules --filters Name=group-id,Values={group}")["SecurityGroupRules"]
    kinds = {(rule["IpProtocol"], rule["IsEgress"], rule.get("FromPort")) for rule in listed}
    assert kinds == {("udp", False, 500), ("udp", True, 500), ("50", False, None), ("50", True, None)}

    again = aws.refused(f"aws ec2 authorize-security-group-ingress --group-id {group} --protocol 50 --source-group {group}")
    assert again.endswith(
        "An error occurred (InvalidPermission.Duplicate) when calling the AuthorizeSecurityGroupIngress operation:"
        f' the specified rule "peer: {group}, 50, ALLOW" already exists'
    )

    # What breaks a job, and what mends it.
    out = next(rule for rule in listed if rule["IpProtocol"] == "50" and rule["IsEgress"])["SecurityGroupRuleId"]
    aws(f"aws ec2 revoke-security-group-egress --group-id {group} --security-group-rule-ids {out}")
    aws(f"aws ec2 authorize-security-group-egress --group-id {group} --ip-permissions '{esp}'")
    (shown,) = aws(f"aws ec2 describe-security-groups --group-ids {group}")["SecurityGroups"]
    assert shown["IpPermissionsEgress"] == expected


def test_protocol_50_by_option_and_port(aws, vpc):
    group = aws(f"aws ec2 create-security-group --group-name g --description d --vpc-id {vpc}")["GroupId"]
    aws(f"aws ec2 authorize-security-group-ingress --group-id {group} --protocol 50 --port 0-65535 --cidr 10.0.0.0/16")
    (shown,) = aws(f"aws ec2 describe-security-groups --group-ids {group}")["SecurityGroups"]
    (permission,) = shown["IpPermissions"]
    assert permission["IpProtocol"] == "50"
    assert not {"FromPort", "ToPort"} & permission.keys()


def test_a_private_subnet_with_a_way_to_s3(aws, vpc):
    subnet = aws(f"aws ec2 create-subnet --vpc-id {vpc} --cidr-block 10.0.1.0/24")["Subnet"]["SubnetId"]
    table = aws(f"aws ec2 create-route-table --vpc-id {vpc}")["RouteTable"]["RouteTableId"]
    aws(f"aws ec2 associate-route-table --route-table-id {table} --subnet-id {subnet}")
    endpoint = aws(
        f"aws ec2 create-vpc-endpoint --vpc-id {vpc} --service-name com.amazonaws.eu-central-1.s3 --route-table-ids {table}"
        " --tag-specifications 'ResourceType=vpc-endpoint,Tags=[{Key=Name,Value=s3}]'"
    )["VpcEndpoint"]
    assert endpoint["Tags"] == [{"Key": "Name", "Value": "s3"}]
    routes = aws(f"aws ec2 describe-route-tables --route-table-ids {table} --query RouteTables[0].Routes[].GatewayId")
    assert routes == ["local", endpoint["VpcEndpointId"]]
    aws(f"aws ec2 modify-vpc-attribute --vpc-id {vpc} --enable-dns-hostnames Value=true")
    attribute = aws(f"aws ec2 describe-vpc-attribute --vpc-id {vpc} --attribute enableDnsHostnames")
    assert attribute["EnableDnsHostnames"] == {"Value": True}
    assert "(DependencyViolation)" in aws.refused(f"aws ec2 delete-vpc --vpc-id {vpc}")
    assert "(DryRunOperation)" in aws.refused(f"aws ec2 delete-route-table --route-table-id {table} --dry-run")
