"""Algorithms and training jobs that are made with them, by the handlers on a real SQLite file."""

import copy

import pytest
from test_sagemaker import XGBOOST, request, world  # noqa: F401

from phalanx.store.jobs import TrainingJob
from phalanx.wire.errors import AwsError

ARN = "arn:aws:sagemaker:eu-central-1:123456789012:algorithm/boost"
INTEGER = {"IntegerParameterRangeSpecification": {"MinValue": "1", "MaxValue": "500"}}
CONTINUOUS = {"ContinuousParameterRangeSpecification": {"MinValue": "0", "MaxValue": "1"}}
CATEGORICAL = {"CategoricalParameterRangeSpecification": {"Values": ["hist", "exact"]}}
SPECIFICATION = {
    "TrainingImage": XGBOOST,
    "SupportedTrainingInstanceTypes": ["ml.m5.large", "ml.m5.xlarge"],
    "SupportsDistributedTraining": True,
    "TrainingChannels": [
        {
            "Name": "train",
            "IsRequired": True,
            "SupportedContentTypes": ["text/csv"],
            "SupportedCompressionTypes": ["None"],
            "SupportedInputModes": ["File"],
        },
        {"Name": "validation", "SupportedContentTypes": ["text/csv"], "SupportedInputModes": ["File"]},
    ],
    "MetricDefinitions": [{"Name": "auc", "Regex": "auc:([0-9.]+)"}, {"Name": "loss", "Regex": "loss:([0-9.]+)"}],
    "SupportedHyperParameters": [
        {"Name": "num_round", "Type": "Integer", "Range": INTEGER, "IsRequired": True, "IsTunable": True},
        {"Name": "eta", "Type": "Continuous", "Range": CONTINUOUS, "DefaultValue": "0.3"},
        {"Name": "tree_method", "Type": "Categorical", "Range": CATEGORICAL, "DefaultValue": "hist"},
        {"Name": "note", "Type": "FreeText"},
    ],
    "SupportedTuningJobObjectiveMetrics": [{"Type": "Maximize", "MetricName": "auc"}],
}
BY_NAME = {"AlgorithmName": "boost", "TrainingInputMode": "File"}


def made(world, name="boost", tags=(), **changes):  # noqa: F811
    members = {"AlgorithmName": name, "TrainingSpecification": {**copy.deepcopy(SPECIFICATION), **changes}}
    return world.call("CreateAlgorithm", **members, Tags=list(tags))["AlgorithmArn"]


@pytest.fixture
def algorithm(world):  # noqa: F811
    assert made(world) == ARN
    return world


def stored(world, name="job-1"):  # noqa: F811
    with world.database.read() as session:
        return session.get_one(TrainingJob, name).request


@pytest.mark.shows("AlgorithmSpecification.AlgorithmName")
@pytest.mark.parametrize("name", ["boost", ARN])
def test_a_job_takes_over_what_the_algorithm_says(algorithm, name):
    own = [{"Name": "loss", "Regex": "own:([0-9.]+)"}]
    specification = {**BY_NAME, "AlgorithmName": name, "MetricDefinitions": own}
    algorithm.call("CreateTrainingJob", **request(AlgorithmSpecification=specification))
    taken = stored(algorithm)
    assert taken["AlgorithmSpecification"]["TrainingImage"] == XGBOOST
    assert taken["HyperParameters"] == {"num_round": "10", "eta": "0.3", "tree_method": "hist"}
    # What is not the request's stays once the algorithm is gone.
    algorithm.call("DeleteAlgorithm", AlgorithmName="boost")
    described = algorithm.call("DescribeTrainingJob", TrainingJobName="job-1")
    assert described["AlgorithmSpecification"] == {
        "AlgorithmName": ARN,
        "TrainingInputMode": "File",
        "MetricDefinitions": [SPECIFICATION["MetricDefinitions"][0], *own],
    }
    assert described["HyperParameters"]["eta"] == "0.3"


def channel(name="train", **changes):
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://bucket/data/train"}}
    return {"ChannelName": name, "DataSource": source, "ContentType": "text/csv", **changes}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"HyperParameters": {}}, "num_round is required"),
        ({"HyperParameters": {"num_round": "501"}}, "not between 1 and 500"),
        ({"HyperParameters": {"num_round": "1.5"}}, "not of type Integer"),
        ({"HyperParameters": {"num_round": "1", "eta": "nan"}}, "not of type Continuous"),
        ({"HyperParameters": {"num_round": "1", "tree_method": "gpu"}}, "none of hist, exact"),
        ({"HyperParameters": {"num_round": "1", "depth": "3"}}, "depth is not supported"),
        ({"ResourceConfig": {"InstanceType": "ml.c5.large", "InstanceCount": 1}}, "ml.c5.large is not supported"),
        ({"InputDataConfig": [channel("validation")]}, "channel train is required"),
        ({"InputDataConfig": [channel(), channel("test")]}, "channel test is not supported"),
        ({"InputDataConfig": [channel(ContentType="text/libsvm")]}, "ContentType text/libsvm"),
        ({"InputDataConfig": [channel(CompressionType="Gzip")]}, "CompressionType Gzip"),
        ({"AlgorithmSpecification": {**BY_NAME, "AlgorithmName": "none"}}, "Requested resource not found"),
        ({"AlgorithmSpecification": {**BY_NAME, "AlgorithmName": ARN.replace("eu-", "us-")}}, "Requested resource not found"),
        ({"AlgorithmSpecification": {**BY_NAME, "TrainingImage": XGBOOST}}, "not both"),
    ],
)
def test_a_job_that_does_not_fit_its_algorithm_is_refused(algorithm, changes, text):
    with pytest.raises(AwsError, match=text) as caught:
        algorithm.call("CreateTrainingJob", **request(**{"AlgorithmSpecification": BY_NAME, **changes}))
    assert caught.value.code == "ValidationException"


def test_one_instance_unless_it_is_distributed(world):  # noqa: F811
    made(world, SupportsDistributedTraining=False)
    with pytest.raises(AwsError, match="Distributed training is not supported"):
        world.call("CreateTrainingJob", **request(AlgorithmSpecification=BY_NAME))


def spec(**changes):
    return {"SupportedHyperParameters": [{"Name": "a", "Type": "Integer", **changes}]}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"MetricDefinitions": [{"Name": "auc", "Regex": "no group"}]}, "Invalid regex"),
        ({"MetricDefinitions": []}, "objective metric auc"),
        ({"SupportedHyperParameters": [{"Name": "a", "Type": "FreeText"}] * 2}, "unique names"),
        (spec(Range=CONTINUOUS), "does not go with its Type"),
        (spec(Range={"IntegerParameterRangeSpecification": {"MinValue": "5", "MaxValue": "1"}}), "MinValue the smaller"),
        (spec(IsTunable=True), "needs a Range"),
        (spec(DefaultValue="x"), "DefaultValue of hyperparameter a is not of type Integer"),
        ({"TrainingChannels": [SPECIFICATION["TrainingChannels"][0]] * 2}, "unique names"),
        ({"TrainingImageDigest": "sha256:" + "0" * 64}, "TrainingImageDigest is not supported"),
    ],
)
def test_algorithms_that_make_no_sense_are_refused(world, changes, text):  # noqa: F811
    with pytest.raises(AwsError, match=text):
        made(world, **changes)
    assert world.call("ListAlgorithms")["AlgorithmSummaryList"] == []


@pytest.mark.shows("CreateAlgorithm", "DescribeAlgorithm", "ListAlgorithms", "DeleteAlgorithm")
def test_described_listed_tagged_and_deleted(algorithm):
    described = algorithm.call("DescribeAlgorithm", AlgorithmName=ARN)
    assert described["TrainingSpecification"] == SPECIFICATION
    assert (described["AlgorithmStatus"], described["AlgorithmArn"]) == ("Completed", ARN)
    for name in ("other", "another"):
        made(algorithm, name, tags=[{"Key": "team", "Value": "a"}])
    with pytest.raises(AwsError, match="already exists"):
        made(algorithm)

    def names(**members):
        found, token = [], {}
        while True:
            listed = algorithm.call("ListAlgorithms", MaxResults=2, **members, **token)
            found += [each["AlgorithmName"] for each in listed["AlgorithmSummaryList"]]
            if "NextToken" not in listed:
                return found
            token = {"NextToken": listed["NextToken"]}

    assert sorted(names()) == ["another", "boost", "other"]
    assert names(SortBy="Name", SortOrder="Descending") == ["other", "boost", "another"]
    assert names(NameContains="OTHER", SortBy="Name") == ["another", "other"]
    assert names(CreationTimeBefore=described["CreationTime"]) == []
    arn = ARN.replace("boost", "other")
    assert algorithm.call("ListTags", ResourceArn=arn)["Tags"] == [{"Key": "team", "Value": "a"}]
    algorithm.call("DeleteAlgorithm", AlgorithmName="other")
    for operation, members in (("DescribeAlgorithm", {"AlgorithmName": "other"}), ("ListTags", {"ResourceArn": arn})):
        with pytest.raises(AwsError, match="not found"):
            algorithm.call(operation, **members)
