"""Jobs whose VPC does not lead to S3, or has other DHCP options than SageMaker needs."""

from dataclasses import replace

import pytest

from jobs.stub_fleet import Script, StubFleet
from jobs.test_runner import create, load
from jobs.test_traffic import VPC, Lab
from phalanx.jobs import exits
from phalanx.jobs.enforcement import Enforcement
from phalanx.jobs.runner import Runner
from phalanx.network.model import S3_ADDRESS
from phalanx.store.network import (
    DhcpOptions,
    NetworkInterface,
    NetworkInterfaceGroup,
    RouteTable,
    RouteTableAssociation,
    SecurityGroup,
    SecurityGroupRule,
    VpcEndpoint,
    VpcEndpointRouteTable,
)
from phalanx.store.network import Vpc as StoredVpc


@pytest.fixture
def lab(tmp_path):
    lab = Lab(tmp_path)
    lab.fleet = StubFleet(Script())
    lab.world = replace(lab.world, fleet=lab.fleet, enforcement=Enforcement(lab.database, lab.fleet), require_s3_route=True)
    yield lab
    lab.close()


def ended(lab, **request):
    create(lab.database, VpcConfig=VPC, **request)
    Runner("job", lab.world).run()
    return load(lab.database)


def endpoint(lab, kind, *groups):
    """An S3 endpoint in the job's VPC."""
    with lab.database.write() as session:
        made = VpcEndpoint(id="vpce-1", vpc_id="vpc-1", kind=kind, service="com.amazonaws.us-west-2.s3", policy="{}")
        session.add_all([made, RouteTable(id="rtb-1", vpc_id="vpc-1")])
        session.flush()
        session.add(RouteTableAssociation(route_table_id="rtb-1", vpc_id="vpc-1"))
        if kind == "Gateway":
            session.add(VpcEndpointRouteTable(endpoint_id="vpce-1", route_table_id="rtb-1"))
        else:
            session.add_all(SecurityGroup(id=group, vpc_id="vpc-1", name=group, description="") for group in groups)
            session.flush()
            memberships = [NetworkInterfaceGroup(position=at, group_id=group) for at, group in enumerate(groups)]
            interface = {"subnet_id": "subnet-1", "vpc_id": "vpc-1", "address": "10.0.1.200", "description": ""}
            session.add(NetworkInterface(**interface, owner="vpce-1", memberships=memberships))


def allow(lab, group, direction, **peer):
    with lab.database.write() as session:
        session.add(SecurityGroupRule(group_id=group, direction=direction, protocol="6", from_port=443, to_port=443, **peer))


def test_without_a_way_to_s3_the_job_fails_in_sagemakers_words_where_that_is_asked_for(lab):
    job = ended(lab)
    assert (job.status, job.failure_reason) == ("Failed", exits.NO_WAY_TO_S3)
    assert job.failure_reason.startswith("ClientError: Artifact upload failed:Please ensure that the subnet's route table has")
    assert lab.fleet.specs == {}


def test_by_default_it_trains(lab):
    lab.world = replace(lab.world, require_s3_route=False)
    assert ended(lab).status == "Completed"


def test_a_job_without_vpc_needs_no_route(lab):
    create(lab.database)
    Runner("job", lab.world).run()
    assert load(lab.database).status == "Completed"


@pytest.mark.parametrize("allowed", [True, False])
def test_a_gateway_endpoint_and_a_rule_to_it(lab, allowed):
    endpoint(lab, "Gateway")
    # AWS's own prefix list has no row.
    allow(lab, "sg-1", "egress", **({"prefix_list": "pl-63a5400a"} if allowed else {"cidr": "10.0.0.0/8"}))
    job = ended(lab)
    assert job.failure_reason == (None if allowed else exits.NO_WAY_TO_S3)
    if allowed:
        assert lab.fleet.exits["vpc-1"].s3 == ("10.0.1.0/24",)
        environments = {spec.environment["AWS_ENDPOINT_URL_S3"] for spec in lab.fleet.specs.values()}
        assert environments == {f"http://{S3_ADDRESS}:443"}


@pytest.mark.parametrize("allowed", [True, False])
def test_an_interface_endpoint_and_rules_at_both_ends(lab, allowed):
    endpoint(lab, "Interface", "sg-endpoint")
    allow(lab, "sg-1", "egress", peer_group="sg-endpoint")
    if allowed:
        allow(lab, "sg-endpoint", "ingress", peer_group="sg-1")
    assert ended(lab).failure_reason == (None if allowed else exits.NO_WAY_TO_S3)


@pytest.mark.parametrize("missing", ["domain-name", "domain-name-servers", None])
def test_dhcp_options_without_a_domain_or_servers_fail_the_job(lab, missing):
    lab.world = replace(lab.world, require_s3_route=False)
    options = {"domain-name": ["us-west-2.compute.internal"], "domain-name-servers": ["AmazonProvidedDNS"]}
    options.pop(missing, None)
    with lab.database.write() as session:
        session.add(DhcpOptions(id="dopt-1", configurations=options))
        session.flush()
        session.get_one(StoredVpc, "vpc-1").dhcp_options_id = "dopt-1"
    reason = ended(lab).failure_reason
    expected = "ClientError: expected DHCP options to include keys domain-name-servers and domain-name, but missing"
    assert reason is None if missing is None else reason.startswith(expected)


def test_the_container_of_an_isolated_job_is_told_of_no_s3(lab):
    lab.world = replace(lab.world, require_s3_route=False)
    assert ended(lab, EnableNetworkIsolation=True).status == "Completed"
    assert not any("S3" in name for spec in lab.fleet.specs.values() for name in spec.environment)
