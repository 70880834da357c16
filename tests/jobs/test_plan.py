"""From a stored request to instances, by hand: no store, no fleet."""

import pytest

from phalanx.data.model import ObjectStore
from phalanx.jobs import plan
from phalanx.jobs.plan import Placement, Plan
from phalanx.network.model import Eni
from phalanx.store.jobs import TrainingJob

STORE = ObjectStore("http://127.0.0.1:1", "us-west-2", "key", "secret")
NETWORK = {"VpcConfig": {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}}


def job(instances=2, algorithm=None, resources=None, **request) -> TrainingJob:
    return TrainingJob(
        name="job",
        arn="arn:aws:sagemaker:eu-central-1:123456789012:training-job/job",
        instances=instances,
        encrypted=False,
        request={
            "AlgorithmSpecification": {"TrainingImage": "image", "TrainingInputMode": "File", **(algorithm or {})},
            "OutputDataConfig": {"S3OutputPath": "s3://bucket/models"},
            "ResourceConfig": resources or {"InstanceType": "ml.m5.large", "InstanceCount": instances, "VolumeSizeInGB": 1},
            **request,
        },
    )


def made(instances=2) -> Plan:
    enis = [Eni(f"eni-{number}", f"10.0.0.{number}", ("sg-1", "sg-2")) for number in range(1, instances + 1)]
    return Plan("vpc-1", tuple(Placement(f"i-{eni.id[4:]}", f"algo-{eni.id[4:]}", eni, "us-west-2a") for eni in enis))


def specs(wanted: TrainingJob, **given):
    return plan.specs(wanted, made(wanted.instances), STORE, **given)


def channel(name, *groups):
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://bucket/{name}", "S3DataDistributionType": "ShardedByS3Key"}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source | ({"InstanceGroupNames": [*groups]} if groups else {})}}


def test_a_plan_is_kept_whole():
    for kept in (made(), Plan("vpc-2", (Placement("i-1", "algo-1", Eni("eni-1", "10.0.0.1", ())),), ran=True)):
        assert Plan.from_json(kept.to_json()) == kept
    assert made().ids == ("i-1", "i-2")
    assert made().hosts == {"algo-1": "10.0.0.1", "algo-2": "10.0.0.2"}


def test_a_job_without_a_network_has_one_of_its_own():
    found = plan.make(None, job(3))
    assert [placement.host for placement in found.placements] == ["algo-1", "algo-2", "algo-3"]
    assert len({placement.eni.address for placement in found.placements} | set(found.ids)) == 6
    assert {placement.eni.groups for placement in found.placements} == {(plan.platform_group(found.vpc_id).id,)}
    # It is found again by the job alone.
    assert plan.make(None, job(3)).vpc_id == found.vpc_id


@pytest.mark.parametrize(
    ("algorithm", "command", "arguments"),
    [
        ({}, None, ("train",)),
        ({"ContainerArguments": ["--epochs", "3"]}, None, ("--epochs", "3")),
        ({"ContainerEntrypoint": ["python3", "run.py"]}, ("python3", "run.py"), ()),
        ({"ContainerEntrypoint": ["run"], "ContainerArguments": ["-v"]}, ("run",), ("-v",)),
    ],
)
def test_what_runs(algorithm, command, arguments):
    assert {(spec.command, spec.arguments) for spec in specs(job(algorithm=algorithm))} == {(command, arguments)}


def test_a_jobs_environment_goes_before_the_platforms_but_for_what_names_the_job():
    asked = {"GLOO_SOCKET_IFNAME": "lo", "MINE": "1", "TRAINING_JOB_NAME": "other", "AWS_REGION": "elsewhere"}
    (spec,) = specs(job(1, Environment=asked, **NETWORK))
    assert spec.environment == {
        "GLOO_SOCKET_IFNAME": "lo",
        "NCCL_SOCKET_IFNAME": "eth0",
        "TP_SOCKET_IFNAME": "eth0",
        "MINE": "1",
        "AWS_ENDPOINT_URL_S3": "http://198.51.100.1:443",
        "S3_ENDPOINT_URL": "http://198.51.100.1:443",
        "TRAINING_JOB_NAME": "job",
        "TRAINING_JOB_ARN": "arn:aws:sagemaker:eu-central-1:123456789012:training-job/job",
        "AWS_REGION": "eu-central-1",
    }


def test_who_reaches_no_s3_is_told_of_none():
    for wanted in (job(1), job(1, EnableNetworkIsolation=True, **NETWORK)):
        (spec,) = specs(wanted)
        assert "AWS_ENDPOINT_URL_S3" not in spec.environment


def test_groups_share_the_channels_that_name_them():
    resources = {
        "InstanceGroups": [
            {"InstanceGroupName": "workers", "InstanceType": "ml.m5.large", "InstanceCount": 2},
            {"InstanceGroupName": "servers", "InstanceType": "ml.c5.xlarge", "InstanceCount": 1},
        ],
    }
    inputs = [channel("all"), channel("rows", "workers"), channel("rest", "servers")]
    found = specs(job(3, resources=resources, InputDataConfig=inputs))
    shares = [[(each.name, each.shard, each.shards) for each in spec.workspace.channels] for spec in found]
    assert shares == [
        [("all", 0, 3), ("rows", 0, 2)],
        [("all", 1, 3), ("rows", 1, 2)],
        [("all", 2, 3), ("rest", 0, 1)],
    ]
    assert [(group.name, group.hosts) for group in found[2].workspace.groups] == [
        ("workers", ("algo-1", "algo-2")),
        ("servers", ("algo-3",)),
    ]
    assert [(spec.limits.cpus, spec.limits.memory >> 30) for spec in found] == [(2, 8), (2, 8), (4, 8)]
    assert {spec.volume >> 30 for spec in found} == {plan.DEFAULT_VOLUME}


def test_keys_and_credentials_are_made_anew_and_only_where_they_are_wanted():
    wanted = job(2)
    assert [(spec.mesh, spec.credentials) for spec in specs(wanted)] == [(None, None)] * 2
    wanted.encrypted = True
    first, again = specs(wanted, lends=True), specs(wanted, lends=True)
    assert len({spec.credentials for spec in first + again}) == 4
    assert None not in {spec.mesh for spec in first + again}
    assert len({spec.mesh.fingerprint for spec in first + again}) == 4
    alone = job(1)
    alone.encrypted = True
    assert [spec.mesh for spec in specs(alone)] == [None]
