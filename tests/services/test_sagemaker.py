"""The SageMaker handlers, called directly, on a real SQLite file."""

import copy
import itertools
from contextlib import contextmanager
from datetime import timedelta
from types import SimpleNamespace

import pytest
from answers import told
from botocore.loaders import Loader
from sqlalchemy import func, select

from phalanx.jobs.keyring import Keyring
from phalanx.services.sagemaker import delete
from phalanx.services.sagemaker.fields import FIELDS, Support
from phalanx.services.sagemaker.service import service
from phalanx.services.times import moment
from phalanx.store import network
from phalanx.store.base import Base, now_ms
from phalanx.store.database import Database, sqlite_url
from phalanx.store.jobs import DeletedJob, LogEvent, LogStream, Tag, TrainingJob, Transition
from phalanx.store.keys import Key, KeyAlias
from phalanx.wire.errors import AwsError
from phalanx.wire.loader import service_model
from phalanx.wire.service import Caller

CALLER = Caller("123456789012", "eu-central-1", "AKIAEXAMPLE", "arn:aws:iam::123456789012:user/admin", "AIDAEXAMPLE", "r-1")
ROLE = "arn:aws:iam::123456789012:role/SageMakerRole"
XGBOOST = "492215442770.dkr.ecr.eu-central-1.amazonaws.com/sagemaker-xgboost:1.7-1"
UNKNOWN = "492215442770.dkr.ecr.eu-central-1.amazonaws.com/team/no-such:1"


class StubControl:
    """A jobs room that knows one image and one prefix, and counts what it is asked."""

    def __init__(self):
        self.woken = 0
        self.encrypted_disk = False
        self.there = 0

    def wake(self):
        self.woken += 1

    def gpus(self):
        return self.there

    def disk_is_encrypted(self):
        return self.encrypted_disk

    def knows_image(self, uri):
        return uri == XGBOOST

    def keeps(self, uri):
        return True

    def has_objects(self, uri, role):
        return uri.startswith("s3://bucket/data")

    def may_encrypt(self, role, key):
        return True

    def doubt(self, job):
        return f"{job.name} is doubted"

    def signed_summary(self, job):
        return {"of": job.name} if job.name == "two" else None

    def network_changed(self, *vpc_ids):
        raise AssertionError("no handler here changes a network")


def request(name="job-1", **changes):
    members = {
        "TrainingJobName": name,
        "AlgorithmSpecification": {"TrainingImage": XGBOOST, "TrainingInputMode": "File"},
        "RoleArn": ROLE,
        "HyperParameters": {"num_round": "10"},
        "InputDataConfig": [
            {
                "ChannelName": "train",
                "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://bucket/data/train"}},
                "ContentType": "text/csv",
            }
        ],
        "OutputDataConfig": {"S3OutputPath": "s3://bucket/output"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 10},
        "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
        "EnableInterContainerTrafficEncryption": True,
    }
    return {**members, **changes}


def changed(path, value):
    """A request with the member at a dotted path (digits are list indices) set, or removed where value is None."""
    members = copy.deepcopy(request())
    *parents, last = path.split(".")
    node = members
    for part in parents:
        node = node[int(part)] if part.isdigit() else node.setdefault(part, {})
    if value is None:
        del node[last]
    else:
        node[last] = value
    return members


@pytest.fixture
def world(tmp_path):
    database = Database(sqlite_url(tmp_path / "phalanx.db"))
    Base.metadata.create_all(database.engine)
    control = StubControl()
    handlers = service(database, control).handlers

    def call(operation, **members):
        return told(handlers[operation](CALLER, members))

    yield SimpleNamespace(database=database, control=control, call=call)
    database.close()


def refused(world, code, text, members):
    """The request is refused with `code` and a message holding `text`; nothing is stored, nobody is woken."""
    with pytest.raises(AwsError) as caught:
        world.call("CreateTrainingJob", **members)
    assert caught.value.code == code
    assert caught.value.status == 400
    assert text in caught.value.message
    with world.database.read() as session:
        for table in (TrainingJob, Transition, Tag):
            assert session.scalar(select(func.count()).select_from(table)) == 0
    assert world.control.woken == 0


def test_create_stores_the_job_whole_and_wakes_the_queue(world):
    arn = "arn:aws:sagemaker:eu-central-1:123456789012:training-job/job-1"
    assert world.call("CreateTrainingJob", **request(Tags=[{"Key": "team", "Value": "a"}])) == {"TrainingJobArn": arn}
    assert world.control.woken == 1
    with world.database.read() as session:
        job = session.get_one(TrainingJob, "job-1")
        assert (job.arn, job.status, job.secondary_status) == (arn, "InProgress", "Starting")
        assert (job.instances, job.encrypted, job.stop_requested) == (2, True, False)
        assert "Tags" not in job.request
        assert [(each.number, each.status, each.message, each.ended) for each in session.scalars(select(Transition))] == [
            (0, "Starting", "Starting the training job", None)
        ]
        assert [(tag.arn, tag.key, tag.value) for tag in session.scalars(select(Tag))] == [(arn, "team", "a")]


def test_an_encrypted_job_cannot_ask_for_rdma(world):
    efa = {"FI_PROVIDER": "efa"}
    refused(world, "ValidationException", "FI_PROVIDER=efa asks for RDMA, which bypasses IPsec", request(Environment=efa))
    world.call("CreateTrainingJob", **request(Environment=efa, EnableInterContainerTrafficEncryption=False))


@pytest.mark.shows("RoleArn", "Environment")
def test_a_job_can_be_described_as_it_was_asked_for(world):
    world.call("CreateTrainingJob", **request(Environment={"A": "1"}, EnableNetworkIsolation=True))
    job = world.call("DescribeTrainingJob", TrainingJobName="job-1")
    for name in (
        "TrainingJobName",
        "AlgorithmSpecification",
        "RoleArn",
        "HyperParameters",
        "ResourceConfig",
        "StoppingCondition",
    ):
        assert job[name] == request()[name]
    assert job["Environment"] == {"A": "1"}
    assert job["EnableNetworkIsolation"] is True
    assert job["EnableInterContainerTrafficEncryption"] is True
    assert job["EnableManagedSpotTraining"] is False
    assert job["OutputDataConfig"] == {"S3OutputPath": "s3://bucket/output", "KmsKeyId": "", "CompressionType": "GZIP"}
    (channel,) = job["InputDataConfig"]
    assert channel["DataSource"]["S3DataSource"]["S3DataDistributionType"] == "FullyReplicated"
    assert (channel["CompressionType"], channel["RecordWrapperType"], channel["ContentType"]) == ("None", "None", "text/csv")
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("InProgress", "Starting")
    (transition,) = job["SecondaryStatusTransitions"]
    assert transition == {
        "Status": "Starting",
        "StartTime": job["CreationTime"],
        "StatusMessage": "Starting the training job",
    }
    assert job["CreationTime"].tzinfo is not None
    absent = (
        "ModelArtifacts",
        "FailureReason",
        "TrainingStartTime",
        "TrainingEndTime",
        "BillableTimeInSeconds",
        "TuningJobArn",
    )
    assert not [name for name in (*absent, "Tags", "VpcConfig") if name in job]


def test_an_ended_job_is_described_with_times_model_metrics_and_reason(world):
    world.call("CreateTrainingJob", **request())
    with world.database.write() as session:
        job = session.get_one(TrainingJob, "job-1")
        job.status = job.secondary_status = "Failed"
        job.failure_reason = "AlgorithmError: , exit code: 1"
        job.training_started, job.training_ended = job.created + 1_000, job.created + 62_400
        job.model_uri = "s3://bucket/output/job-1/output/model.tar.gz"
        job.metrics = {"validation:auc": [0.98, job.created + 50_000]}
        session.get_one(Transition, ("job-1", 0)).ended = job.created + 1_000
        ended = job.created + 62_400
        session.add(
            Transition(job="job-1", number=1, status="Failed", message="Training job failed", started=ended, ended=ended)
        )
    job = world.call("DescribeTrainingJob", TrainingJobName="job-1")
    created = job["CreationTime"]
    assert job["FailureReason"] == "AlgorithmError: , exit code: 1"
    assert job["ModelArtifacts"] == {"S3ModelArtifacts": "s3://bucket/output/job-1/output/model.tar.gz"}
    assert job["FinalMetricDataList"] == [
        {"MetricName": "validation:auc", "Value": 0.98, "Timestamp": created + timedelta(seconds=50)}
    ]
    # Per instance: two instances ran 61 seconds each.
    assert (job["TrainingTimeInSeconds"], job["BillableTimeInSeconds"]) == (61, 61)
    assert job["TrainingEndTime"] - job["TrainingStartTime"] == timedelta(seconds=61.4)
    first, last = job["SecondaryStatusTransitions"]
    assert first["EndTime"] == created + timedelta(seconds=1)
    assert last["EndTime"] == last["StartTime"]
    assert last["StatusMessage"] == "Training job failed"


def test_defaults_of_a_short_request(world):
    members = request()
    del members["InputDataConfig"], members["StoppingCondition"], members["EnableInterContainerTrafficEncryption"]
    world.call("CreateTrainingJob", **members)
    job = world.call("DescribeTrainingJob", TrainingJobName="job-1")
    assert job["StoppingCondition"] == {"MaxRuntimeInSeconds": 86_400}
    assert job["EnableInterContainerTrafficEncryption"] is False
    assert "InputDataConfig" not in job


@pytest.fixture
def strict(world):
    """CreateTrainingJob of a service that requires encryption, by the policy it is given."""

    def create(policy, **changes):
        handlers = service(world.database, world.control, require_encryption=policy).handlers
        return handlers["CreateTrainingJob"](CALLER, request(**changes))

    return create


@pytest.mark.parametrize("flag", [{}, {"EnableInterContainerTrafficEncryption": False}])
def test_required_encryption_refuses_a_job_without_it(world, strict, flag):
    members = request()
    del members["EnableInterContainerTrafficEncryption"]
    handlers = service(world.database, world.control, require_encryption="refuse").handlers
    with pytest.raises(AwsError) as caught:
        handlers["CreateTrainingJob"](CALLER, {**members, **flag})
    assert caught.value.code == "AccessDeniedException"
    for text in (CALLER.arn, "training-job/job-1", "--require-encryption", "EnableInterContainerTrafficEncryption"):
        assert text in caught.value.message
    assert world.call("ListTrainingJobs")["TrainingJobSummaries"] == []


@pytest.mark.parametrize("policy", ["refuse", "upgrade"])
def test_required_encryption_lets_pass_what_is_encrypted_or_alone(world, strict, policy):
    strict(policy)
    alone = {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1}
    strict(policy, name="alone", ResourceConfig=alone, EnableInterContainerTrafficEncryption=False)
    assert not world.call("DescribeTrainingJob", TrainingJobName="alone")["EnableInterContainerTrafficEncryption"]


def test_required_encryption_upgrades_a_job_without_it(world, strict):
    strict("upgrade", EnableInterContainerTrafficEncryption=False)
    assert world.call("DescribeTrainingJob", TrainingJobName="job-1")["EnableInterContainerTrafficEncryption"] is True
    with world.database.read() as session:
        assert session.get_one(TrainingJob, "job-1").encrypted is True


@pytest.mark.parametrize("operation", ["DescribeTrainingJob", "StopTrainingJob"])
def test_unknown_jobs(world, operation):
    with pytest.raises(AwsError, match=r"^Requested resource not found\.$") as caught:
        world.call(operation, TrainingJobName="nope")
    assert caught.value.code == "ValidationException"


def test_a_name_is_used_once(world):
    arn = world.call("CreateTrainingJob", **request())["TrainingJobArn"]
    with pytest.raises(AwsError) as caught:
        world.call("CreateTrainingJob", **request(Tags=[{"Key": "a", "Value": "b"}]))
    assert caught.value.code == "ResourceInUse"
    assert caught.value.message == (
        "Training job names must be unique within an AWS account and region, "
        f"and a training job with this name already exists ({arn})"
    )
    assert world.control.woken == 1
    assert world.call("ListTags", ResourceArn=arn) == {"Tags": []}


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ("AlgorithmSpecification", {"TrainingInputMode": "File"}, "You must specify either AlgorithmName or TrainingImage"),
        ("AlgorithmSpecification", None, "Value null at 'algorithmSpecification'"),
        ("ResourceConfig", None, "Value null at 'resourceConfig' failed to satisfy constraint: Member must not be null"),
        ("ResourceConfig.InstanceType", None, "Value null at 'resourceConfig.instanceType'"),
        ("ResourceConfig.InstanceCount", None, "Value null at 'resourceConfig.instanceCount'"),
        ("ResourceConfig.InstanceCount", 0, "Value '0' at 'resourceConfig.instanceCount' failed to satisfy constraint"),
        ("RoleArn", "arn:aws:iam::999999999999:role/Other", "RoleArn: Cross-account pass role is not allowed."),
        ("InputDataConfig.0.DataSource.S3DataSource.S3Uri", "s3://bucket/none", 'found under S3 URL "s3://bucket/none" given'),
        ("InputDataConfig.0.DataSource.S3DataSource.S3Uri", "https://s3.amazonaws.com/b/k", "is not valid"),
        ("InputDataConfig.0.DataSource.S3DataSource.S3Uri", "s3://Bad_Bucket/k", "is not valid"),
        ("OutputDataConfig.S3OutputPath", "s3://x", "is not valid"),
        ("InputDataConfig.0.DataSource", {}, "Value null at 'inputDataConfig.1.member.dataSource.s3DataSource'"),
        ("StoppingCondition.MaxWaitTimeInSeconds", 7200, "Invalid MaxWaitTimeInSeconds. It is only supported when"),
        ("EnableManagedSpotTraining", True, "Invalid MaxWaitTimeInSeconds. It must be present"),
        ("CheckpointConfig", {"S3Uri": "https://bucket/c"}, "is not valid. Give it as s3://bucket/prefix"),
        ("CheckpointConfig", {"S3Uri": "s3://bucket/c", "LocalPath": "/tmp/c"}, "or give '/opt/ml/checkpoints'"),
        ("FromTheFuture", {"A": 1}, "FromTheFuture is not supported"),
        ("ResourceConfig.FromTheFuture", 1, "ResourceConfig.FromTheFuture is not supported"),
        ("Tags", [{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}], "Duplicate tag keys"),
        ("Tags", [{"Key": "aws:a", "Value": "1"}], "aws: prefixed tag key names are not allowed"),
        ("Tags", [{"Key": "phalanx:placement", "Value": "apart"}], "must be one of [spread, pack]"),
    ],
)
def test_bad_requests_are_refused_and_leave_nothing(world, path, value, text):
    refused(world, "ValidationException", text, changed(path, value))


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        (
            "ResourceConfig.InstanceCount",
            10_000,
            "'ml.m5.large for training job usage' is 100 Instances, with current utilization",
        ),
        ("ResourceConfig.InstanceType", "ml.p3.2xlarge", "'ml.p3.2xlarge for training job usage' is 0 Instances"),
        ("ResourceConfig.InstanceType", "ml.trn1.2xlarge", "a request delta of 2 Instances. Please use AWS Service Quotas"),
        ("StoppingCondition.MaxRuntimeInSeconds", 2_419_201, "'Longest run time for a training job' is 2419200 Seconds"),
    ],
)
def test_more_than_the_limits(world, path, value, text):
    refused(world, "ResourceLimitExceeded", text, changed(path, value))


def test_unknown_images(world):
    refused(
        world,
        "ValidationException",
        "Cannot find repository: team/no-such in registry ID: 492215442770 Please check if your ECR repository and image exist "
        f"and role {ROLE} has proper pull permissions",
        changed("AlgorithmSpecification.TrainingImage", UNKNOWN),
    )
    refused(
        world,
        "ValidationException",
        "Cannot find the requested image: localhost/mine:2",
        changed("AlgorithmSpecification.TrainingImage", "localhost/mine:2"),
    )


def test_metric_definitions_that_cannot_be_used(world):
    definitions = [{"Name": "auc", "Regex": "auc=[0-9.]+"}]
    refused(
        world,
        "ValidationException",
        "Invalid regex for metric auc",
        changed("AlgorithmSpecification.MetricDefinitions", definitions),
    )


def test_channel_names_are_unique(world):
    members = request()
    members["InputDataConfig"] = members["InputDataConfig"] * 2
    refused(
        world,
        "ValidationException",
        "Channel names must be unique. InputDataConfig has more than one channel named train",
        members,
    )


def test_missing_objects_in_the_words_of_sagemaker(world):
    members = changed("InputDataConfig.0.DataSource.S3DataSource.S3Uri", "s3://other/x")
    refused(
        world,
        "ValidationException",
        'No S3 objects found under S3 URL "s3://other/x" given in input data source. Please ensure that the bucket exists in '
        "the selected region (eu-central-1), that objects exist under that S3 prefix, and that the role "
        f'"{ROLE}" has "s3:ListBucket" permissions on bucket "other".',
        members,
    )


@pytest.fixture
def vpcs(world):
    with world.database.write() as session:
        for number in (1, 2):
            session.add(network.Vpc(id=f"vpc-{number}", cidr=f"10.{number}.0.0/16"))
            session.flush()
            session.add(
                network.Subnet(id=f"subnet-{number}", vpc_id=f"vpc-{number}", cidr=f"10.{number}.0.0/24", zone="eu-central-1a")
            )
            session.add(network.SecurityGroup(id=f"sg-{number}", vpc_id=f"vpc-{number}", name="s", description="s"))


def in_vpc(subnets, groups):
    return request(VpcConfig={"Subnets": subnets, "SecurityGroupIds": groups})


def test_a_vpc_config_that_fits(world, vpcs):
    world.call("CreateTrainingJob", **in_vpc(["subnet-1"], ["sg-1"]))
    job = world.call("DescribeTrainingJob", TrainingJobName="job-1")
    assert job["VpcConfig"] == {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}


@pytest.mark.parametrize(
    ("subnets", "groups", "text"),
    [
        (["subnet-9"], ["sg-1"], "subnet-9"),
        (["subnet-1"], ["sg-9"], "sg-9"),
        (["subnet-1"], ["sg-2"], "sg-2"),
        (["subnet-1", "subnet-2"], ["sg-1"], "subnet-2"),
    ],
)
def test_a_vpc_config_that_does_not(world, vpcs, subnets, groups, text):
    refused(world, "ValidationException", text, in_vpc(subnets, groups))


@pytest.mark.shows(
    "AlgorithmSpecification.TrainingImageConfig.TrainingRepositoryAccessMode",
    "InputDataConfig[].RecordWrapperType",
    "InputDataConfig[].InputMode",
)
@pytest.mark.parametrize(
    "extra",
    [
        {"EnableManagedSpotTraining": False},
        {"ProfilerConfig": {"DisableProfiler": True}},
        # As SDK v2 sends them for framework jobs.
        {
            "ProfilerConfig": {"S3OutputPath": "s3://bucket/output", "DisableProfiler": False},
            "DebugHookConfig": {"S3OutputPath": "s3://bucket/output", "CollectionConfigurations": []},
        },
        {"RemoteDebugConfig": {"EnableRemoteDebug": False}, "InfraCheckConfig": {"EnableInfraCheck": False}},
        {"SessionChainingConfig": {"EnableSessionTagChaining": False}, "DebugRuleConfigurations": []},
        {"ProfilerRuleConfigurations": [], "ExperimentConfig": {}},
        {"CheckpointConfig": {"S3Uri": "s3://bucket/c", "LocalPath": "/opt/ml/checkpoints"}},
        {"RetryStrategy": {"MaximumRetryAttempts": 3}},
        {"StoppingCondition": {"MaxRuntimeInSeconds": 60, "MaxPendingTimeInSeconds": 7200}},
    ],
)
def test_what_is_honoured_or_means_off_is_accepted(world, extra):
    world.call("CreateTrainingJob", **request(**extra))
    job = world.call("DescribeTrainingJob", TrainingJobName="job-1")
    shown = {name for name in extra if name != "SessionChainingConfig"}
    assert {name: job[name] for name in shown} == {name: extra[name] for name in shown}


def sample(shape):
    """A value of a shape."""
    if shape.type_name == "structure":
        return {name: sample(shape.members[name]) for name in shape.required_members or list(shape.members)[:1]}
    if shape.type_name == "list":
        return [sample(shape.member)]
    if shape.type_name == "map":
        return {"name": sample(shape.value)}
    return {"boolean": True, "integer": 1, "long": 1, "string": "x"}[shape.type_name]


def shape_at(path):
    """The shape of a member of CreateTrainingJob."""
    shape = service_model("sagemaker").shape_for("CreateTrainingJobRequest")
    for part in path.split("."):
        shape = shape.members[part.removesuffix("[]")]
        shape = shape.member if part.endswith("[]") else shape
    return shape


@pytest.mark.parametrize("field", [field for field in FIELDS if field.support is Support.REFUSED], ids=lambda field: field.path)
def test_what_the_table_refuses_is_refused(world, field):
    refused(
        world,
        "ValidationException",
        field.path.split(".")[-1],
        changed(field.path.replace("[]", ".0"), sample(shape_at(field.path))),
    )


@pytest.mark.parametrize(
    "field", [field for field in FIELDS if field.support is Support.NO_EFFECT], ids=lambda field: field.path
)
def test_what_has_no_effect_is_accepted(world, field):
    world.call("CreateTrainingJob", **changed(field.path.replace("[]", ".0"), sample(shape_at(field.path))))


def test_the_table_names_every_member_of_the_service_model():
    shapes = Loader().load_service_model("sagemaker", "service-2")["shapes"]
    listed = {field.path for field in FIELDS}
    seen = set()

    def walk(path, shape):
        if path in listed:
            seen.add(path)
            return
        kind = shapes[shape]
        if kind["type"] == "list":
            walk(f"{path}[]", kind["member"]["shape"])
            return
        assert kind["type"] == "structure", f"{path} is not in the table"
        for name, member in kind["members"].items():
            walk(f"{path}.{name}" if path else name, member["shape"])

    walk("", "CreateTrainingJobRequest")
    assert listed - seen == set(), "in the table, but not in the model"
    assert len(listed) == len(FIELDS)
    assert all(field.values is not None for field in FIELDS if field.support is Support.REFUSED)
    assert all(field.note for field in FIELDS if field.support is not Support.HONOURED)


def test_stop(world):
    world.call("CreateTrainingJob", **request())
    for _ in range(2):
        assert world.call("StopTrainingJob", TrainingJobName="job-1") == {}
        with world.database.read() as session:
            job = session.get_one(TrainingJob, "job-1")
            assert (job.status, job.stop_requested) == ("Stopping", True)
    assert world.control.woken == 3


@pytest.mark.parametrize("status", ["Completed", "Failed", "Stopped"])
def test_ended_jobs_cannot_be_stopped(world, status):
    world.call("CreateTrainingJob", **request())
    with world.database.write() as session:
        session.get_one(TrainingJob, "job-1").status = status
    with pytest.raises(AwsError) as caught:
        world.call("StopTrainingJob", TrainingJobName="job-1")
    assert caught.value.code == "ValidationException"
    assert caught.value.message == f"The request was rejected because the training job is in status {status}."
    assert world.control.woken == 1


@pytest.mark.shows("DeleteTrainingJob")
def test_delete(world):
    arn = world.call("CreateTrainingJob", **request(Tags=[{"Key": "a", "Value": "1"}]))["TrainingJobArn"]
    with pytest.raises(AwsError, match="is in status InProgress") as caught:
        world.call("DeleteTrainingJob", TrainingJobName="job-1")
    assert caught.value.code == "ResourceInUse"
    with world.database.write() as session:
        job = session.get_one(TrainingJob, "job-1")
        job.status, job.stage = "Completed", "ended"
        session.add(LogStream(name="job-1/algo-1-1", job="job-1", host="algo-1", created=1))
        session.flush()
        session.add(LogEvent(stream="job-1/algo-1-1", number=0, timestamp=1, ingested=1, message="m"))
    world.call("CreateTrainingJob", **request("job-2"))
    assert world.call("DeleteTrainingJob", TrainingJobName="job-1") == {}
    with world.database.read() as session:
        left = {
            table: session.scalar(select(func.count()).select_from(table)) for table in (Transition, Tag, LogStream, LogEvent)
        }
    assert left == {Transition: 1, Tag: 0, LogStream: 0, LogEvent: 0}
    with pytest.raises(AwsError) as caught:
        world.call("DeleteTrainingJob", TrainingJobName="job-1")
    assert caught.value.code == "ResourceNotFound"
    # The name is free again.
    assert world.call("CreateTrainingJob", **request()) == {"TrainingJobArn": arn}


def test_of_a_deleted_job_that_trained_on_several_instances_is_kept_what_an_audit_tells(world):
    resources = request()["ResourceConfig"]
    for name, started in (("one", 1), ("queued", None), ("two", 1), ("two", 1)):
        count = 1 if name == "one" else 2
        asked = request(name, ResourceConfig={**resources, "InstanceCount": count})
        arn = world.call("CreateTrainingJob", **asked)["TrainingJobArn"]
        with world.database.write() as session:
            job = session.get_one(TrainingJob, name)
            job.status, job.stage, job.training_started = "Stopped", "ended", started
            # No report as the service makes them: whether it tells anything is not for this to say.
            job.evidence = {"job": name}
        world.call("DeleteTrainingJob", TrainingJobName=name)
    with world.database.read() as session:
        kept = session.scalars(select(DeletedJob)).all()
    # A name that was taken twice is kept twice.
    assert [(job.name, job.arn, job.instances, job.status, job.encrypted, job.doubt, job.evidence) for job in kept] == [
        ("two", arn, 2, "Stopped", True, "two is doubted", {"of": "two"})
    ] * 2
    assert all(job.deleted >= job.created for job in kept)


def test_a_long_log_is_deleted_in_portions_and_the_job_with_the_last(world, monkeypatch):
    monkeypatch.setattr(delete, "PORTION", 4)
    for name in ("job-1", "job-2"):
        world.call("CreateTrainingJob", **request(name))
    with world.database.write() as session:
        job = session.get_one(TrainingJob, "job-1")
        job.status, job.stage, job.training_started = "Completed", "ended", 1
        for stream, lines in (("job-1/algo-1-1", 7), ("job-1/algo-2-1", 5), ("job-2/algo-1-1", 3)):
            name, host = stream[:5], stream[6:12]
            session.add(LogStream(name=stream, job=name, host=host, created=1, events=lines))
            session.flush()
            session.add_all(
                LogEvent(stream=stream, number=number, timestamp=1, ingested=1, message="m") for number in range(lines)
            )
    left = []

    @contextmanager
    def write():
        with write_in_turn() as session:
            left.append([(each.stream[6:12], each.number) for each in session.scalars(of_the_job)])
            if len(left) == 3:
                raise KilledError
            yield session

    of_the_job = select(LogEvent).where(LogEvent.stream.startswith("job-1/")).order_by(LogEvent.stream, LogEvent.number)
    write_in_turn = world.database.write
    monkeypatch.setattr(world.database, "write", write)
    with pytest.raises(KilledError):
        world.call("DeleteTrainingJob", TrainingJobName="job-1")
    # Of what is asked to go the oldest has gone, and the job is there to be asked again.
    assert world.call("DescribeTrainingJob", TrainingJobName="job-1")["TrainingJobStatus"] == "Completed"
    assert world.call("DeleteTrainingJob", TrainingJobName="job-1") == {}
    assert [len(each) for each in left] == [12, 8, 4, 4]
    assert left[2] == [("algo-2", number) for number in range(1, 5)]
    with world.database.read() as session:
        assert session.scalars(select(LogEvent.stream).distinct()).all() == ["job-2/algo-1-1"]
        assert session.scalar(select(func.count()).select_from(LogEvent)) == 3
        assert [job.name for job in session.scalars(select(DeletedJob))] == ["job-1"]


class KilledError(Exception):
    pass


@pytest.mark.shows("UpdateTrainingJob")
def test_update_accepts_what_means_off_and_refuses_the_rest(world):
    arn = world.call("CreateTrainingJob", **request())["TrainingJobArn"]
    for off in ({"ProfilerConfig": {"DisableProfiler": True}}, {"RemoteDebugConfig": {"EnableRemoteDebug": False}}, {}):
        assert world.call("UpdateTrainingJob", TrainingJobName="job-1", **off) == {"TrainingJobArn": arn}
    for on, text in (
        ({"ResourceConfig": {"KeepAlivePeriodInSeconds": 60}}, "created with a warm pool"),
        ({"RemoteDebugConfig": {"EnableRemoteDebug": True}}, "nobody may enter a training container"),
    ):
        with pytest.raises(AwsError, match=text):
            world.call("UpdateTrainingJob", TrainingJobName="job-1", **on)
    with world.database.write() as session:
        session.get_one(TrainingJob, "job-1").status = "Failed"
    with pytest.raises(AwsError, match="is in status Failed"):
        world.call("UpdateTrainingJob", TrainingJobName="job-1")
    with pytest.raises(AwsError, match="not found"):
        world.call("UpdateTrainingJob", TrainingJobName="nope")


@pytest.mark.shows("AddTags", "ListTags", "DeleteTags", "Tags")
def test_tags(world):
    arn = world.call("CreateTrainingJob", **request(Tags=[{"Key": "a", "Value": "1"}]))["TrainingJobArn"]
    added = world.call("AddTags", ResourceArn=arn, Tags=[{"Key": "b", "Value": "2"}, {"Key": "a", "Value": "3"}])
    assert added == {"Tags": [{"Key": "a", "Value": "3"}, {"Key": "b", "Value": "2"}]}
    assert world.call("ListTags", ResourceArn=arn, MaxResults=50) == added
    assert world.call("DeleteTags", ResourceArn=arn, TagKeys=["a", "never"]) == {}
    assert world.call("ListTags", ResourceArn=arn) == {"Tags": [{"Key": "b", "Value": "2"}]}
    with pytest.raises(AwsError, match="at most 50 tags; this one would have 51"):
        world.call("AddTags", ResourceArn=arn, Tags=[{"Key": f"k{number}", "Value": ""} for number in range(50)])
    assert len(world.call("ListTags", ResourceArn=arn)["Tags"]) == 1
    with pytest.raises(AwsError, match=r"Requested resource not found\."):
        world.call("AddTags", ResourceArn=arn + "x", Tags=[{"Key": "a", "Value": "1"}])


@pytest.fixture
def listed(world):
    """Twelve jobs: job-00 the oldest, a second apart, but for the last three, which share their time."""
    base = now_ms()
    with world.database.write() as session:
        for number in range(12):
            created = base + 1000 * min(number, 9)
            session.add(
                TrainingJob(
                    name=f"job-{number:02d}" if number % 2 else f"Other-{number:02d}",
                    arn=f"arn:aws:sagemaker:eu-central-1:123456789012:training-job/{number}",
                    request={},
                    status="Completed" if number % 3 == 0 else "InProgress",
                    secondary_status="Completed" if number % 3 == 0 else "Training",
                    created=created,
                    modified=created + 500,
                    training_ended=created + 400 if number % 3 == 0 else None,
                    instances=1,
                    encrypted=False,
                )
            )
    return base


def names(response):
    return [summary["TrainingJobName"] for summary in response["TrainingJobSummaries"]]


def numbers(response):
    return [int(name[-2:]) for name in names(response)]


def pages(world, **members):
    found = []
    token = {}
    for _ in range(20):
        response = world.call("ListTrainingJobs", **members, **token)
        found.append(response)
        if "NextToken" not in response:
            return found
        token = {"NextToken": response["NextToken"]}
    raise AssertionError("paging does not end")


def test_list_is_newest_first_ten_to_a_page(world, listed):
    first, second = pages(world)
    assert len(first["TrainingJobSummaries"]) == 10
    assert numbers(first)[3:] == [8, 7, 6, 5, 4, 3, 2]
    assert set(numbers(first)[:3]) == {9, 10, 11}
    assert numbers(second) == [1, 0]
    (oldest,) = (each for each in second["TrainingJobSummaries"] if each["TrainingJobName"] == "Other-00")
    assert oldest == {
        "TrainingJobName": "Other-00",
        "TrainingJobArn": "arn:aws:sagemaker:eu-central-1:123456789012:training-job/0",
        "CreationTime": moment(listed),
        "TrainingEndTime": moment(listed + 400),
        "LastModifiedTime": moment(listed + 500),
        "TrainingJobStatus": "Completed",
        "SecondaryStatus": "Completed",
    }


@pytest.mark.shows("ListTrainingJobs")
@pytest.mark.parametrize("sort", ["Name", "CreationTime", "Status"])
@pytest.mark.parametrize("order", ["Ascending", "Descending"])
@pytest.mark.parametrize("size", [1, 4, 12])
def test_every_order_pages_through_all_jobs_once(world, listed, sort, order, size):
    found = pages(world, SortBy=sort, SortOrder=order, MaxResults=size)
    assert sorted(itertools.chain.from_iterable(numbers(page) for page in found)) == list(range(12))
    summaries = [summary for page in found for summary in page["TrainingJobSummaries"]]
    key = {"Name": "TrainingJobName", "CreationTime": "CreationTime", "Status": "TrainingJobStatus"}[sort]
    assert [each[key] for each in summaries] == sorted((each[key] for each in summaries), reverse=order == "Descending")


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"NameContains": "job"}, {1, 3, 5, 7, 9, 11}),
        ({"NameContains": "OTHER-1"}, {10}),
        ({"NameContains": "zzz"}, set()),
        ({"StatusEquals": "Completed"}, {0, 3, 6, 9}),
        ({"StatusEquals": "Stopped"}, set()),
        ({"WarmPoolStatusEquals": "Available"}, set()),
        ({"StatusEquals": "Completed", "NameContains": "job", "MaxResults": 1}, {3, 9}),
    ],
)
def test_filters(world, listed, filters, expected):
    assert set(itertools.chain.from_iterable(numbers(page) for page in pages(world, **filters))) == expected


def test_time_filters(world, listed):
    def find(**times):
        moments = {name: moment(listed + milliseconds) for name, milliseconds in times.items()}
        return set(numbers(world.call("ListTrainingJobs", MaxResults=100, **moments)))

    assert find(CreationTimeAfter=6_000) == {7, 8, 9, 10, 11}
    assert find(CreationTimeBefore=2_000) == {0, 1}
    assert find(CreationTimeAfter=2_000, CreationTimeBefore=5_000) == {3, 4}
    assert find(LastModifiedTimeAfter=8_000) == {8, 9, 10, 11}
    assert find(LastModifiedTimeBefore=1_501) == {0, 1}


def test_tokens_are_bound_to_their_list(world, listed):
    token = world.call("ListTrainingJobs", MaxResults=2)["NextToken"]
    for members in ({"NextToken": "nonsense"}, {"NextToken": token, "SortBy": "Name"}, {"NextToken": "WzFd"}):
        with pytest.raises(AwsError, match="Invalid NextToken") as caught:
            world.call("ListTrainingJobs", **members)
        assert caught.value.code == "ValidationException"


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"StoppingCondition": {"MaxRuntimeInSeconds": 60}}, "It must be present and be greater than or equal to"),
        ({"StoppingCondition": {"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 59}}, "greater than or equal to"),
        ({"StoppingCondition": {"MaxWaitTimeInSeconds": 3600}}, "greater than or equal to MaxRuntimeInSeconds"),
        (
            {
                "StoppingCondition": {"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 60},
                "ResourceConfig": {**request()["ResourceConfig"], "KeepAlivePeriodInSeconds": 60},
            },
            "cannot be used with managed spot training",
        ),
    ],
)
def test_spot_jobs_that_do_not_fit(world, members, text):
    refused(world, "ValidationException", text, request(EnableManagedSpotTraining=True, **members))


def test_a_spot_job_is_billed_for_the_time_it_had_instances(world):
    stopping = {"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 3600}
    world.call("CreateTrainingJob", **request(EnableManagedSpotTraining=True, StoppingCondition=stopping))
    with world.database.write() as session:
        job = session.get_one(TrainingJob, "job-1")
        job.training_started, job.training_ended, job.idle = job.created, job.created + 100_000, 80_000
    job = world.call("DescribeTrainingJob", TrainingJobName="job-1")
    assert (job["EnableManagedSpotTraining"], job["TrainingTimeInSeconds"], job["BillableTimeInSeconds"]) == (True, 100, 20)


def test_warm_pools_are_described_listed_and_changed(world):
    resources = {**request()["ResourceConfig"], "KeepAlivePeriodInSeconds": 600}
    for name in ("pool", "heir"):
        world.call("CreateTrainingJob", **request(name, ResourceConfig=resources))

    def update(seconds):
        world.call("UpdateTrainingJob", TrainingJobName="pool", ResourceConfig={"KeepAlivePeriodInSeconds": seconds})
        return world.call("DescribeTrainingJob", TrainingJobName="pool")

    assert update(900)["ResourceConfig"]["KeepAlivePeriodInSeconds"] == 900
    with world.database.write() as session:
        job = session.get_one(TrainingJob, "pool")
        job.status, job.warm_pool, job.warm_since = "Completed", "Available", now_ms() - 60_000
        job.stage = "ended"
    with pytest.raises(AwsError, match="retains an Available warm pool"):
        world.call("DeleteTrainingJob", TrainingJobName="pool")
    job = update(3600)
    assert job["WarmPoolStatus"] == {"Status": "Available", "ResourceRetainedBillableTimeInSeconds": 60}
    listed = world.call("ListTrainingJobs", WarmPoolStatusEquals="Available")["TrainingJobSummaries"]
    assert [(item["TrainingJobName"], item["WarmPoolStatus"]) for item in listed] == [("pool", job["WarmPoolStatus"])]
    assert update(0)["WarmPoolStatus"]["Status"] == "Terminated"
    with pytest.raises(AwsError, match="is in status Completed"):
        update(60)
    with world.database.write() as session:
        job = session.get_one(TrainingJob, "pool")
        job.warm_pool, job.warm_reused_by = "Reused", "heir"
    assert world.call("DescribeTrainingJob", TrainingJobName="pool")["WarmPoolStatus"]["ReusedByJob"] == "heir"


def test_a_job_begins_under_a_key_that_can_be_used_or_not_at_all(world, tmp_path):
    keyring = Keyring(world.database, tmp_path / "root.key")
    with world.database.write() as session:
        key = keyring.create(session, "arn:aws:kms:eu-central-1:123456789012:key/", "")
        session.flush()
        session.add(
            KeyAlias(name="alias/models", arn="arn:aws:kms:eu-central-1:123456789012:alias/models", key=key.id, created=1)
        )
    for unknown in ("alias/no", "11111111-2222-3333-4444-555555555555", key.arn + "0"):
        refused(
            world,
            "ValidationException",
            "Invalid OutputDataConfig.KmsKeyId: ",
            changed("OutputDataConfig.KmsKeyId", unknown),
        )
    with world.database.write() as session:
        session.get_one(Key, key.id).enabled = False
    message = f"Invalid OutputDataConfig.KmsKeyId: {key.arn} is disabled. (DisabledException)"
    refused(world, "ValidationException", message, changed("OutputDataConfig.KmsKeyId", "alias/models"))
    with world.database.write() as session:
        session.get_one(Key, key.id).enabled = True
    world.control.may_encrypt = lambda role, arn: (role, arn) != (ROLE, key.arn)
    message = "is not authorized to perform: kms:GenerateDataKey on resource: " + key.arn
    refused(world, "ValidationException", message, changed("OutputDataConfig.KmsKeyId", "alias/models"))
    del world.control.may_encrypt
    world.call("CreateTrainingJob", **changed("OutputDataConfig.KmsKeyId", "alias/models"))
    assert world.call("DescribeTrainingJob", TrainingJobName="job-1")["OutputDataConfig"]["KmsKeyId"] == "alias/models"


@pytest.mark.shows("ResourceConfig.VolumeKmsKeyId")
def test_a_volume_key_is_taken_where_the_disk_is_encrypted_and_refused_elsewhere(world, tmp_path):
    keyring = Keyring(world.database, tmp_path / "root.key")
    with world.database.write() as session:
        key = keyring.create(session, "arn:aws:kms:eu-central-1:123456789012:key/", "")
    text = "Put the data directory on dm-crypt (LUKS), or leave VolumeKmsKeyId out."
    refused(world, "ValidationException", text, changed("ResourceConfig.VolumeKmsKeyId", key.arn))
    world.control.encrypted_disk = True
    text = "Invalid ResourceConfig.VolumeKmsKeyId: "
    refused(world, "ValidationException", text, changed("ResourceConfig.VolumeKmsKeyId", "alias/none"))
    world.call("CreateTrainingJob", **changed("ResourceConfig.VolumeKmsKeyId", key.arn))
    assert world.call("DescribeTrainingJob", TrainingJobName="job-1")["ResourceConfig"]["VolumeKmsKeyId"] == key.arn


def test_as_many_gpus_as_there_are(world):
    world.control.there = 4
    text = "'ml.g5.12xlarge for training job usage' is 1 Instances, with current utilization"
    refused(world, "ResourceLimitExceeded", text, changed("ResourceConfig.InstanceType", "ml.g5.12xlarge"))
    text = "One has 8 GPU(s), and this service has 4"
    refused(world, "ResourceLimitExceeded", text, changed("ResourceConfig.InstanceType", "ml.p4d.24xlarge"))
    world.call("CreateTrainingJob", **changed("ResourceConfig.InstanceType", "ml.g5.xlarge"))
