"""boto3 against a live server: SageMaker and its logs through the wire, answers read by botocore's parser and shapes."""

import base64
from types import SimpleNamespace

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.validate import ParamValidator
from live_server import serving

from phalanx.services.logs import service as logs
from phalanx.services.sagemaker import service as sagemaker
from phalanx.store.base import Base, now_ms
from phalanx.store.database import Database, sqlite_url
from phalanx.store.jobs import LogEvent, LogStream, TrainingJob, Transition

IMAGE = "246618743249.dkr.ecr.us-west-2.amazonaws.com/sagemaker-xgboost:1.7-1"
ROLE = "arn:aws:iam::123456789012:role/SageMakerRole"
REQUEST = {
    "AlgorithmSpecification": {
        "TrainingImage": IMAGE,
        "TrainingInputMode": "File",
        "MetricDefinitions": [{"Name": "auc", "Regex": "auc:([0-9.]+)"}],
        "ContainerEntrypoint": ["/bin/bash"],
        "ContainerArguments": ["-c", "train"],
    },
    "RoleArn": ROLE,
    "HyperParameters": {"num_round": "10", "eta": "0.3"},
    "InputDataConfig": [
        {
            "ChannelName": name,
            "DataSource": {
                "S3DataSource": {
                    "S3DataType": "S3Prefix",
                    "S3Uri": f"s3://bucket/data/{name}",
                    "S3DataDistributionType": "ShardedByS3Key",
                }
            },
            "ContentType": "text/csv",
        }
        for name in ("train", "validation")
    ],
    "OutputDataConfig": {"S3OutputPath": "s3://bucket/output"},
    "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 10},
    "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
    "EnableNetworkIsolation": True,
    "EnableInterContainerTrafficEncryption": True,
    "Environment": {"NAME": "value"},
    "Tags": [{"Key": "team", "Value": "Zürich"}],
}


class StubControl:
    def wake(self):
        pass

    def gpus(self):
        return 4

    def disk_is_encrypted(self):
        return False

    def knows_image(self, uri):
        return uri == IMAGE

    def keeps(self, uri):
        return True

    def has_objects(self, uri, role):
        return uri.startswith("s3://bucket/data/")

    def network_changed(self, *vpc_ids):
        raise AssertionError


@pytest.fixture
def world(tmp_path):
    database = Database(sqlite_url(tmp_path / "phalanx.db"))
    Base.metadata.create_all(database.engine)

    def client(name):
        made = boto3.client(
            name,
            endpoint_url=url,
            region_name="us-west-2",
            aws_access_key_id="AKIAEXAMPLE",
            aws_secret_access_key="secret",
            # What the client would refuse by itself must be refused by the service too.
            config=Config(parameter_validation=False, retries={"total_max_attempts": 1}),
        )

        # An answer must be one that the service model allows: members, types, lengths and required members.
        def check(parsed, model, **_):
            if parsed.get("Error") is None and model.output_shape is not None:
                answer = {key: value for key, value in parsed.items() if key != "ResponseMetadata"}
                report = ParamValidator().validate(answer, model.output_shape)
                assert not report.has_errors() or report.generate_report() == MODEL_NOT_YET, report.generate_report()

        made.meta.events.register(f"after-call.{made.meta.service_model.service_id.hyphenize()}.*", check)
        return made

    with serving([sagemaker.service(database, StubControl()), logs.service(database)]) as url:
        yield SimpleNamespace(database=database, sagemaker=client("sagemaker"), logs=client("logs"))
    database.close()


# The model calls it required, and SageMaker leaves it out until there is a model.
MODEL_NOT_YET = 'Missing required parameter in input: "ModelArtifacts"'


def test_a_job_from_creation_to_its_end(world):
    client = world.sagemaker
    arn = client.create_training_job(TrainingJobName="job-1", **REQUEST)["TrainingJobArn"]
    assert arn == "arn:aws:sagemaker:us-west-2:123456789012:training-job/job-1"
    job = client.describe_training_job(TrainingJobName="job-1")
    for name in REQUEST.keys() - {"Tags", "InputDataConfig", "OutputDataConfig"}:
        assert job[name] == REQUEST[name]
    for given, answered in zip(REQUEST["InputDataConfig"], job["InputDataConfig"], strict=True):
        assert answered == {**given, "CompressionType": "None", "RecordWrapperType": "None"}
    assert job["SecondaryStatusTransitions"][-1]["StatusMessage"] == "Starting the training job"
    assert client.list_tags(ResourceArn=arn)["Tags"] == REQUEST["Tags"]

    with world.database.write() as session:
        row = session.get_one(TrainingJob, "job-1")
        row.status = row.secondary_status = "Completed"
        row.training_started, row.training_ended = row.created, row.created + 90_000
        row.model_uri = "s3://bucket/output/job-1/output/model.tar.gz"
        row.metrics = {"auc": [0.987, row.created + 80_000]}
        ended = row.created + 91_000
        session.get_one(Transition, ("job-1", 0)).ended = ended
        session.add(
            Transition(job="job-1", number=1, status="Completed", message="Training job completed", started=ended, ended=ended)
        )
    client.get_waiter("training_job_completed_or_stopped").wait(TrainingJobName="job-1")
    job = client.describe_training_job(TrainingJobName="job-1")
    assert job["ModelArtifacts"]["S3ModelArtifacts"].endswith("model.tar.gz")
    assert job["BillableTimeInSeconds"] == 90
    assert job["FinalMetricDataList"][0]["Value"] == pytest.approx(0.987)
    with pytest.raises(ClientError, match="the training job is in status Completed"):
        client.stop_training_job(TrainingJobName="job-1")


def test_lists_stops_and_tags(world):
    client = world.sagemaker
    for number in range(5):
        client.create_training_job(TrainingJobName=f"job-{number}", **REQUEST)
    client.stop_training_job(TrainingJobName="job-3")
    pages = client.get_paginator("list_training_jobs").paginate(
        NameContains="job", CreationTimeAfter=0, SortBy="Name", SortOrder="Ascending", PaginationConfig={"PageSize": 2}
    )
    found = [(each["TrainingJobName"], each["TrainingJobStatus"]) for page in pages for each in page["TrainingJobSummaries"]]
    assert found == [(f"job-{number}", "Stopping" if number == 3 else "InProgress") for number in range(5)]
    arn = client.describe_training_job(TrainingJobName="job-0")["TrainingJobArn"]
    assert len(client.add_tags(ResourceArn=arn, Tags=[{"Key": "a", "Value": ""}])["Tags"]) == 2
    client.delete_tags(ResourceArn=arn, TagKeys=["team"])
    assert client.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "a", "Value": ""}]


def changed(**members):
    return {**REQUEST, **members}


@pytest.mark.parametrize(
    ("members", "code", "text"),
    [
        (
            changed(ResourceConfig={**REQUEST["ResourceConfig"], "InstanceType": "ml.t2.medium"}),
            "ValidationException",
            "Value 'ml.t2.medium' at 'resourceConfig.instanceType' failed to satisfy constraint: Member must satisfy enum",
        ),
        (
            changed(ResourceConfig={**REQUEST["ResourceConfig"], "InstanceCount": 0}),
            "ValidationException",
            "Value '0' at 'resourceConfig.instanceCount' failed to satisfy constraint",
        ),
        (
            changed(ResourceConfig={**REQUEST["ResourceConfig"], "InstanceCount": 10_000}),
            "ResourceLimitExceeded",
            "a request delta of 10000 Instances",
        ),
        (changed(HyperParameters={f"p{n}": "1" for n in range(101)}), "ValidationException", "at 'hyperParameters' failed"),
        (changed(HyperParameters={"p": "x" * 2501}), "ValidationException", "2500"),
        (changed(RoleArn="arn:aws:iam::123456789012:user/somebody"), "ValidationException", "at 'roleArn' failed"),
        (changed(RoleArn="arn:aws:iam::111111111111:role/x"), "ValidationException", "Cross-account pass role is not allowed"),
        (changed(OutputDataConfig={"S3OutputPath": "/tmp/x"}), "ValidationException", "at 'outputDataConfig.s3OutputPath'"),
        (
            changed(StoppingCondition={"MaxRuntimeInSeconds": 0}),
            "ValidationException",
            "'stoppingCondition.maxRuntimeInSeconds'",
        ),
        (changed(TrainingJobName="under_score"), "ValidationException", "at 'trainingJobName' failed"),
        (changed(InputDataConfig=[{"ChannelName": "train"}]), "ValidationException", "dataSource"),
        (changed(VpcConfig={"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}), "ValidationException", "subnet-1"),
    ],
)
def test_bad_input_over_the_wire(world, members, code, text):
    with pytest.raises(ClientError) as caught:
        world.sagemaker.create_training_job(**{"TrainingJobName": "job-1", **members})
    assert caught.value.response["Error"]["Code"] == code
    assert text in caught.value.response["Error"]["Message"]
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert world.sagemaker.list_training_jobs()["TrainingJobSummaries"] == []


def test_errors_are_botocore_s_classes(world):
    client = world.sagemaker
    client.create_training_job(TrainingJobName="job-1", **REQUEST)
    with pytest.raises(client.exceptions.ResourceInUse):
        client.create_training_job(TrainingJobName="job-1", **REQUEST)
    with pytest.raises(client.exceptions.ResourceLimitExceeded):
        client.create_training_job(
            TrainingJobName="job-2",
            **changed(ResourceConfig={"InstanceType": "ml.p4d.24xlarge", "InstanceCount": 1, "VolumeSizeInGB": 1}),
        )
    with pytest.raises(ClientError, match=r"\(ValidationException\).*: Requested resource not found\."):
        client.describe_training_job(TrainingJobName="job-2")
    with pytest.raises(world.logs.exceptions.ResourceNotFoundException, match="log stream does not exist"):
        world.logs.get_log_events(logGroupName="/aws/sagemaker/TrainingJobs", logStreamName="job-1/algo-1-1")


def test_logs(world):
    world.sagemaker.create_training_job(TrainingJobName="job-1", **REQUEST)
    start = now_ms()
    with world.database.write() as session:
        for host in ("algo-1", "algo-2"):
            stream = f"job-1/{host}-{start}"
            session.add(
                LogStream(
                    name=stream,
                    job="job-1",
                    host=host,
                    created=start,
                    events=250,
                    first_event=start,
                    last_event=start + 249,
                    last_ingestion=start + 249,
                )
            )
            session.flush()
            session.add_all(
                LogEvent(stream=stream, number=number, timestamp=start + number, ingested=start + 300, message=f"[{number}]")
                for number in range(250)
            )
    client, group = world.logs, "/aws/sagemaker/TrainingJobs"
    assert [each["logGroupName"] for each in client.describe_log_groups(logGroupNamePrefix="/aws")["logGroups"]] == [group]
    answer = client.describe_log_streams(logGroupName=group, logStreamNamePrefix="job-1/", orderBy="LogStreamName", limit=2)
    assert "nextToken" not in answer
    names = [stream["logStreamName"] for stream in answer["logStreams"]]
    assert names == [f"job-1/algo-1-{start}", f"job-1/algo-2-{start}"]

    # SDK v2's reader: from the head, page by page, until a page is empty.
    found, token = [], {}
    while True:
        page = client.get_log_events(logGroupName=group, logStreamName=names[0], startFromHead=True, limit=100, **token)
        if not page["events"]:
            break
        found += [event["message"] for event in page["events"]]
        token = {"nextToken": page["nextForwardToken"]}
    assert found == [f"[{number}]" for number in range(250)]
    assert page["nextForwardToken"] == token["nextToken"]

    pages = client.get_paginator("filter_log_events").paginate(
        logGroupName=group, logStreamNamePrefix="job-1/", filterPattern='"[7"', PaginationConfig={"PageSize": 3}
    )
    events = [event for page in pages for event in page["events"]]
    assert len(events) == 2 * 11
    assert [event["timestamp"] for event in events] == sorted(event["timestamp"] for event in events)
    token = base64.urlsafe_b64encode(b"[1]").decode()
    with pytest.raises(client.exceptions.InvalidParameterException):
        client.filter_log_events(logGroupName=group, nextToken=token)
