"""Many clients at once make, describe and delete security groups; what was acknowledged is there after a restart.

CHURN_GROUPS=500 makes it the size of a large Terraform run.
"""

import os
from concurrent.futures import ThreadPoolExecutor

import boto3

from phalanx.jobs import interfaces
from phalanx.store.database import Database

CLIENTS = 8
GROUPS = int(os.environ.get("CHURN_GROUPS", "32"))
RULES = 20


def permissions(number):
    """Twenty rules of every kind, told apart by the group's number."""
    spans = [{"IpProtocol": "tcp", "FromPort": port, "ToPort": port + number} for port in range(1, RULES - 1)]
    ranges = [{"CidrIp": f"10.{number % 256}.{number // 256}.0/24", "Description": f"group {number}"}]
    return [
        *({**span, "IpRanges": ranges} for span in spans),
        {"IpProtocol": "50", "IpRanges": ranges},
        {"IpProtocol": "-1", "Ipv6Ranges": [{"CidrIpv6": f"2001:db8:{number:x}::/48"}]},
    ]


def test_nothing_is_lost(settings, live_database, client, control):
    vpc = client.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]

    def churn(worker):
        """The groups that one client leaves behind, as it saw them last."""
        ec2 = boto3.client("ec2", **settings)
        left = {}
        for number in range(worker, GROUPS, CLIENTS):
            group = ec2.create_security_group(
                GroupName=f"g-{number}",
                Description="churn",
                VpcId=vpc,
                TagSpecifications=[{"ResourceType": "security-group", "Tags": [{"Key": "number", "Value": str(number)}]}],
            )["GroupId"]
            rules = ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=permissions(number))
            assert len(rules["SecurityGroupRules"]) == RULES
            (found,) = ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"]
            assert found["Tags"] == [{"Key": "number", "Value": str(number)}]
            assert len(found["IpPermissions"]) == RULES
            if number % 3 == 0:
                ec2.delete_security_group(GroupId=group)
            else:
                left[group] = found
        ec2.close()
        return left

    with ThreadPoolExecutor(CLIENTS) as pool:
        left = {group: found for each in pool.map(churn, range(CLIENTS)) for group, found in each.items()}
    assert len(left) == GROUPS - len(range(0, GROUPS, 3))
    assert control.changed == [vpc] * GROUPS

    live_database.close()
    filters = [{"Name": "vpc-id", "Values": [vpc]}]
    shown = {found["GroupId"]: found for found in client.describe_security_groups(Filters=filters)["SecurityGroups"]}
    default = [group for group, found in shown.items() if found["GroupName"] == "default"]
    assert {group: found for group, found in shown.items() if group not in default} == left

    again = Database(live_database.url)
    with again.read() as session:
        enforced = {group.id: group.rules for group in interfaces.security_groups(session, vpc)}
    again.close()
    assert enforced.keys() == {*left, *default}
    for group in left:
        assert sum(rule.direction == "ingress" for rule in enforced[group]) == RULES
    for group in left:
        client.delete_security_group(GroupId=group)
    client.delete_vpc(VpcId=vpc)
    assert {found["GroupName"] for found in client.describe_security_groups()["SecurityGroups"]} == {"default"}
    assert client.describe_tags()["Tags"] == []
