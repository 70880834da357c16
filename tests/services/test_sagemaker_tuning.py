"""The handlers of tuning jobs, called directly, on a real SQLite file; their children are created by the real handler too."""

import copy
from datetime import timedelta
from types import SimpleNamespace

import pytest
from answers import told
from sqlalchemy import func, select

from phalanx.jobs.tuning.tuner import Tuner
from phalanx.services.sagemaker.service import service
from phalanx.services.sagemaker.tuning.children import TrainingJobs
from phalanx.store import network
from phalanx.store.base import now_ms
from phalanx.store.database import Database, sqlite_url
from phalanx.store.jobs import Tag, TrainingJob
from phalanx.store.tuning import TuningChild, TuningJob
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Caller

CALLER = Caller("123456789012", "eu-central-1", "AKIAEXAMPLE", "arn:aws:iam::123456789012:user/admin", "AIDAEXAMPLE", "r-1")
ROLE = "arn:aws:iam::123456789012:role/SageMakerRole"
XGBOOST = "492215442770.dkr.ecr.eu-central-1.amazonaws.com/sagemaker-xgboost:1.7-1"
OWN = "registry.example/team/own:1"
ARN = "arn:aws:sagemaker:eu-central-1:123456789012:hyper-parameter-tuning-job/tune"
ETA = {"Name": "eta", "MinValue": "0.1", "MaxValue": "0.5", "ScalingType": "Linear"}
DEPTH = {"Name": "max_depth", "MinValue": "1", "MaxValue": "8"}
OBJECTIVE = {"Type": "Maximize", "MetricName": "validation:auc"}


class Control:
    """A jobs room that knows two images and one prefix, and counts how often it is woken."""

    woken = 0

    def wake(self):
        self.woken += 1

    def gpus(self):
        return 4

    def disk_is_encrypted(self):
        return False

    def knows_image(self, uri):
        return uri in (XGBOOST, OWN)

    def keeps(self, uri):
        return True

    def has_objects(self, uri, role):
        return uri.startswith("s3://bucket/data")


@pytest.fixture
def world(tmp_path):
    yield from make(tmp_path)


def make(tmp_path, encryption=None):
    database = Database(sqlite_url(tmp_path / "phalanx.db"))
    database.migrate()
    with database.write() as session:
        session.add(network.Vpc(id="vpc-1", cidr="10.0.0.0/16"))
        session.flush()
        session.add(network.Subnet(id="subnet-1", vpc_id="vpc-1", cidr="10.0.1.0/24", zone="eu-central-1a"))
        session.add(network.SecurityGroup(id="sg-1", vpc_id="vpc-1", name="g", description="g"))
    control = Control()
    handlers = service(database, control, require_encryption=encryption).handlers

    def call(operation, **members):
        return told(handlers[operation](CALLER, copy.deepcopy(members)))

    tuner = Tuner(database, TrainingJobs(database, control, encryption))
    yield SimpleNamespace(database=database, control=control, call=call, tuner=tuner)
    database.close()


def definition(**changes):
    members = {
        "StaticHyperParameters": {"objective": "binary:logistic", "num_round": "10"},
        "AlgorithmSpecification": {"TrainingImage": XGBOOST, "TrainingInputMode": "File"},
        "RoleArn": ROLE,
        "InputDataConfig": [
            {
                "ChannelName": "train",
                "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://bucket/data/train"}},
            }
        ],
        "VpcConfig": {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]},
        "OutputDataConfig": {"S3OutputPath": "s3://bucket/output"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 10},
        "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
        "EnableNetworkIsolation": True,
        "EnableInterContainerTrafficEncryption": True,
    }
    merged = {**members, **changes}
    return {name: value for name, value in merged.items() if value is not None}


def config(strategy="Random", most=3, **changes):
    members = {
        "Strategy": strategy,
        "HyperParameterTuningJobObjective": OBJECTIVE,
        "ResourceLimits": {"MaxParallelTrainingJobs": 2, **({} if most is None else {"MaxNumberOfTrainingJobs": most})},
        "ParameterRanges": {"ContinuousParameterRanges": [ETA], "IntegerParameterRanges": [DEPTH]},
    }
    merged = {**members, **changes}
    return {name: value for name, value in merged.items() if value is not None}


def request(name="tune", tuning=None, job=None, **changes):
    members = {
        "HyperParameterTuningJobName": name,
        "HyperParameterTuningJobConfig": tuning or config(),
        "TrainingJobDefinition": job or definition(),
        **changes,
    }
    return {name: value for name, value in members.items() if value is not None}


def choice(name, *values):
    return {"CategoricalParameterRanges": [{"Name": name, "Values": list(values)}]}


def create(world, *arguments, **members):
    return world.call("CreateHyperParameterTuningJob", **request(*arguments, **members))


def describe(world, name="tune"):
    return world.call("DescribeHyperParameterTuningJob", HyperParameterTuningJobName=name)


def children(world, name="tune", **members):
    return world.call("ListTrainingJobsForHyperParameterTuningJob", HyperParameterTuningJobName=name, **members)


def end(world, name, auc=None, status="Completed", reason=None):
    with world.database.write() as session:
        job = session.get_one(TrainingJob, name)
        job.stage, job.status, job.failure_reason, job.training_started = "ended", status, reason, job.created
        job.metrics = {} if auc is None else {"validation:auc": [auc, now_ms()]}


def run(world, values, name="tune"):
    """Let a tuning job run to its end; its children get these values in the order of their creation."""
    rest = iter(values)
    world.tuner.advance(name)
    while describe(world, name)["HyperParameterTuningJobStatus"] == "InProgress":
        for job in children(world, name, StatusEquals="InProgress")["TrainingJobSummaries"]:
            end(world, job["TrainingJobName"], next(rest))
        world.tuner.advance(name)


@pytest.mark.shows("CreateHyperParameterTuningJob")
def test_create_stores_the_job_and_wakes_the_tuner(world):
    assert create(world, Tags=[{"Key": "team", "Value": "a"}]) == {"HyperParameterTuningJobArn": ARN}
    assert world.control.woken == 1
    described = describe(world)
    assert described["HyperParameterTuningJobStatus"] == "InProgress"
    assert described["HyperParameterTuningJobConfig"] == {**config(), "TrainingJobEarlyStoppingType": "Off"}
    static = described["TrainingJobDefinition"]["StaticHyperParameters"]
    assert static == {"objective": "binary:logistic", "num_round": "10", "_tuning_objective_metric": "validation:auc"}
    assert described["TrainingJobDefinition"]["EnableInterContainerTrafficEncryption"] is True
    metrics = described["TrainingJobDefinition"]["AlgorithmSpecification"]["MetricDefinitions"]
    assert metrics[0]["Name"] == "validation:auc"
    assert len(metrics) == 40
    assert set(described["TrainingJobStatusCounters"].values()) == {0}
    assert "BestTrainingJob" not in described
    assert world.call("ListTags", ResourceArn=ARN) == {"Tags": [{"Key": "team", "Value": "a"}]}


def test_children_are_training_jobs_like_any_other_and_inherit_all_that_guards_them(world):
    checkpoints = {"S3Uri": "s3://bucket/checkpoints/"}
    create(world, job=definition(CheckpointConfig=checkpoints, Environment={"A": "1"}), Tags=[{"Key": "team", "Value": "a"}])
    world.tuner.advance("tune")
    first, second = children(world)["TrainingJobSummaries"]
    name = first["TrainingJobName"]
    job = world.call("DescribeTrainingJob", TrainingJobName=name)
    assert job["TuningJobArn"] == ARN
    assert job["EnableInterContainerTrafficEncryption"] is job["EnableNetworkIsolation"] is True
    assert job["VpcConfig"] == definition()["VpcConfig"]
    assert job["HyperParameters"]["_tuning_objective_metric"] == "validation:auc"
    assert first["TunedHyperParameters"].items() <= job["HyperParameters"].items()
    assert 0.1 <= float(job["HyperParameters"]["eta"]) <= 0.5
    assert job["CheckpointConfig"]["S3Uri"] == f"s3://bucket/checkpoints/{name}"
    assert job["Environment"] == {"A": "1"}
    assert world.call("ListTags", ResourceArn=job["TrainingJobArn"])["Tags"] == [{"Key": "team", "Value": "a"}]
    assert {first["ObjectiveStatus"], second["ObjectiveStatus"]} == {"Pending"}
    with world.database.read() as session:
        assert session.get_one(TrainingJob, name).encrypted is True


@pytest.mark.shows("DescribeHyperParameterTuningJob", "ListTrainingJobsForHyperParameterTuningJob")
def test_best_counters_and_lists_tell_how_it_went(world):
    create(world, tuning=config(most=4))
    run(world, [0.7, 0.9, None, 0.8])
    described = describe(world)
    assert described["HyperParameterTuningJobStatus"] == "Completed"
    assert described["TrainingJobStatusCounters"] == {
        "Completed": 4, "InProgress": 0, "RetryableError": 0, "NonRetryableError": 0, "Stopped": 0,
    }  # fmt: skip
    assert described["ObjectiveStatusCounters"] == {"Succeeded": 3, "Pending": 0, "Failed": 1}
    best = described["BestTrainingJob"]
    assert best["FinalHyperParameterTuningJobObjectiveMetric"] == {**OBJECTIVE, "Value": 0.9}
    assert best["TrainingJobName"].startswith("tune-002-")
    assert described["HyperParameterTuningEndTime"] >= described["CreationTime"]
    assert described["TuningJobCompletionDetails"]["NumberOfTrainingJobsObjectiveNotImproving"] == 1

    names = [job["TrainingJobName"] for job in children(world)["TrainingJobSummaries"]]
    assert names == sorted(names)
    page = children(world, SortBy="FinalObjectiveMetricValue", SortOrder="Descending", MaxResults=2)
    rest = children(world, SortBy="FinalObjectiveMetricValue", SortOrder="Descending", NextToken=page["NextToken"])
    values = [
        job["FinalHyperParameterTuningJobObjectiveMetric"]["Value"]
        for each in (page, rest)
        for job in each["TrainingJobSummaries"]
    ]
    assert values == [0.9, 0.8, 0.7]
    assert "NextToken" not in rest
    for sort in ("Name", "CreationTime", "Status"):
        found = children(world, SortBy=sort, SortOrder="Descending", MaxResults=3)
        found = (
            found["TrainingJobSummaries"]
            + children(world, SortBy=sort, SortOrder="Descending", NextToken=found["NextToken"])["TrainingJobSummaries"]
        )
        assert sorted(job["TrainingJobName"] for job in found) == names
    assert children(world, StatusEquals="Failed") == {"TrainingJobSummaries": []}
    with pytest.raises(AwsError, match="NextToken"):
        children(world, NextToken="nonsense")


@pytest.mark.shows("ListHyperParameterTuningJobs")
def test_tuning_jobs_are_listed_filtered_sorted_and_paged(world):
    for name in ("b", "a", "c"):
        create(world, name)
    with world.database.write() as session:
        for created, name in enumerate(("b", "a", "c")):
            session.get_one(TuningJob, name).created = 1_700_000_000_000 + created
        session.get_one(TuningJob, "c").status = "Completed"

    def names(**members):
        listed = world.call("ListHyperParameterTuningJobs", **members)
        return [job["HyperParameterTuningJobName"] for job in listed["HyperParameterTuningJobSummaries"]]

    assert names() == ["a", "b", "c"]
    assert names(SortOrder="Descending") == ["c", "b", "a"]
    assert names(SortBy="CreationTime") == ["b", "a", "c"]
    assert names(SortBy="Status") == ["c", "a", "b"]
    assert names(StatusEquals="Completed") == ["c"]
    assert names(NameContains="B") == ["b"]
    created = describe(world, "a")["CreationTime"]
    assert names(CreationTimeAfter=created) == ["c"]
    assert names(CreationTimeBefore=created) == ["b"]
    assert names(LastModifiedTimeBefore=created) == []
    assert names(LastModifiedTimeAfter=created + timedelta(days=1)) == ["a", "b", "c"]
    for sort in ("Name", "CreationTime", "Status"):
        first = world.call("ListHyperParameterTuningJobs", SortBy=sort, MaxResults=2)
        assert len(names(SortBy=sort, NextToken=first["NextToken"])) == 1
    job = first["HyperParameterTuningJobSummaries"][0]
    assert (job["Strategy"], job["ResourceLimits"]["MaxNumberOfTrainingJobs"]) == ("Random", 3)


def test_tuning_jobs_are_searched_for(world):
    create(world, "a", Tags=[{"Key": "team", "Value": "x"}])
    create(world, "b")
    run(world, [0.7, 0.95, 0.8], "b")

    def found(name, operator, value):
        filters = {"Filters": [{"Name": name, "Operator": operator, "Value": value}]}
        answer = world.call("Search", Resource="HyperParameterTuningJob", SearchExpression=filters)
        return [each["HyperParameterTuningJob"]["HyperParameterTuningJobName"] for each in answer["Results"]]

    assert found("Tags.team", "Equals", "x") == ["a"]
    assert found("HyperParameterTuningJobStatus", "Equals", "Completed") == ["b"]
    assert found("BestTrainingJob.FinalHyperParameterTuningJobObjectiveMetric.Value", "GreaterThan", "0.9") == ["b"]
    filters = {"Filters": [{"Name": "TuningJobArn", "Operator": "Contains", "Value": "/b"}]}
    assert world.call("Search", Resource="TrainingJob", SearchExpression=filters)["TotalHits"]["Value"] == 3


@pytest.mark.parametrize("operation", ["Describe", "Stop", "Delete", "ListTrainingJobsFor"])
def test_an_unknown_tuning_job_is_not_found(world, operation):
    with pytest.raises(AwsError, match="can't find a tuning job called no-such") as caught:
        world.call(f"{operation}HyperParameterTuningJob", HyperParameterTuningJobName="no-such")
    assert caught.value.code == "ResourceNotFound"


@pytest.mark.shows("StopHyperParameterTuningJob", "DeleteHyperParameterTuningJob")
def test_a_stopped_job_stops_its_children_and_can_then_be_deleted(world):
    create(world)
    world.tuner.advance("tune")
    with pytest.raises(AwsError, match="InProgress") as caught:
        world.call("DeleteHyperParameterTuningJob", HyperParameterTuningJobName="tune")
    assert caught.value.code == "ResourceInUse"
    world.call("StopHyperParameterTuningJob", HyperParameterTuningJobName="tune")
    world.call("StopHyperParameterTuningJob", HyperParameterTuningJobName="tune")
    world.tuner.advance("tune")
    stopping = children(world, StatusEquals="Stopping")["TrainingJobSummaries"]
    assert len(stopping) == 2
    for job in stopping:
        end(world, job["TrainingJobName"], 0.5, "Stopped")
    world.tuner.advance("tune")
    described = describe(world)
    assert described["HyperParameterTuningJobStatus"] == "Stopped"
    assert described["TrainingJobStatusCounters"]["Stopped"] == 2
    assert described["BestTrainingJob"]["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] == 0.5
    with pytest.raises(AwsError, match="in status Stopped") as caught:
        world.call("StopHyperParameterTuningJob", HyperParameterTuningJobName="tune")
    assert caught.value.code == "ValidationException"
    world.call("DeleteHyperParameterTuningJob", HyperParameterTuningJobName="tune")
    job = world.call("DescribeTrainingJob", TrainingJobName=stopping[0]["TrainingJobName"])
    assert job["TuningJobArn"] == ARN
    with world.database.read() as session:
        for table in (TuningJob, TuningChild, Tag):
            assert session.scalar(select(func.count()).select_from(table)) == 0


SEVERAL = {
    "DefinitionName": "one",
    "TuningObjective": OBJECTIVE,
    "HyperParameterRanges": {"IntegerParameterRanges": [DEPTH]},
}
REFUSED = {
    "no definition": (request(TrainingJobDefinition=None), "either TrainingJobDefinition or TrainingJobDefinitions"),
    "both definitions": (request(TrainingJobDefinitions=[definition(**SEVERAL)]), "and not both"),
    "no objective": (request(tuning=config(HyperParameterTuningJobObjective=None)), "Member must not be null"),
    "unknown metric": (
        request(tuning=config(HyperParameterTuningJobObjective={"Type": "Maximize", "MetricName": "loss"})),
        "A metric is required for this hyperparameter tuning job objective",
    ),
    "no ranges": (request(tuning=config(ParameterRanges=None)), "At least one hyperparameter range"),
    "bad range": (
        request(tuning=config(ParameterRanges={"IntegerParameterRanges": [{**DEPTH, "MaxValue": "x"}]})),
        "valid integer",
    ),
    "static and tunable": (
        request(job=definition(StaticHyperParameters={"eta": "1"})),
        "eta cannot be both static and tunable",
    ),
    "too many hyperparameters": (
        request(job=definition(StaticHyperParameters={f"p{number}": "1" for number in range(98)})),
        "is 101. It must not be over 100",
    ),
    "too few combinations": (
        request(tuning=config(most=10, ParameterRanges=choice("booster", "gbtree", "dart", "gblinear"))),
        "ranges [3.0] must be equal or greater than the value of MaxNumberOfJobs, [10]",
    ),
    "grid of numbers": (request(tuning=config("Grid", None)), "Grid supports only categorical"),
    "grid of another size": (
        request(tuning=config("Grid", 4, ParameterRanges=choice("booster", "gbtree", "dart"))),
        "the number of all combinations, 2",
    ),
    "strategy config": (
        request(tuning=config(StrategyConfig={"HyperbandStrategyConfig": {"MaxResource": 9}})),
        "only with the strategy Hyperband",
    ),
    "hyperband without resource": (request(tuning=config("Hyperband")), "MaxResource is required"),
    "hyperband with early stopping": (
        request(
            tuning=config(
                "Hyperband",
                TrainingJobEarlyStoppingType="Auto",
                StrategyConfig={"HyperbandStrategyConfig": {"MaxResource": 9}},
            )
        ),
        "must be Off",
    ),
    "hyperband's order": (
        request(tuning=config("Hyperband", StrategyConfig={"HyperbandStrategyConfig": {"MinResource": 9, "MaxResource": 9}})),
        "MinResource 9 must be less than MaxResource 9",
    ),
    "hyperband's most": (
        request(tuning=config("Hyperband", StrategyConfig={"HyperbandStrategyConfig": {"MaxResource": 20_001}})),
        "less than or equal to 20000",
    ),
    "target": (
        request(tuning=config(TuningJobCompletionCriteria={"TargetObjectiveMetricValue": float("nan")})),
        "finite",
    ),
    "seed": (request(tuning=config(RandomSeed=2**70)), "RandomSeed"),
    "auto parameters alone": (
        request(tuning=config(ParameterRanges={"AutoParameters": [{"Name": "eta", "ValueHint": "0.3"}]})),
        "need Autotune",
    ),
    "two resource configs": (
        request(job=definition(HyperParameterTuningResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1})),
        "either ResourceConfig or HyperParameterTuningResourceConfig",
    ),
    "no resource config": (request(job=definition(ResourceConfig=None)), "resourceConfig"),
    "what a training job may not have": (
        request(job=definition(AlgorithmSpecification={"TrainingImage": "no/such", "TrainingInputMode": "File"})),
        "Cannot find the requested image: no/such",
    ),
    "no data": (
        request(
            job=definition(
                InputDataConfig=[
                    {
                        "ChannelName": "train",
                        "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://bucket/none"}},
                    }
                ]
            )
        ),
        "No S3 objects found",
    ),
    "no such subnet": (
        request(job=definition(VpcConfig={"Subnets": ["subnet-2"], "SecurityGroupIds": ["sg-1"]})),
        "The subnet ID 'subnet-2' does not exist",
    ),
    "definitions without a name": (
        request(
            TrainingJobDefinition=None,
            tuning=config(HyperParameterTuningJobObjective=None, ParameterRanges=None),
            TrainingJobDefinitions=[definition(**{**SEVERAL, "DefinitionName": None})],
        ),
        "trainingJobDefinitions.1.member.definitionName",
    ),
    "definitions and general ranges": (
        request(TrainingJobDefinition=None, TrainingJobDefinitions=[definition(**SEVERAL)]),
        "cannot be given together with TrainingJobDefinitions",
    ),
    "definitions of one name": (
        request(
            TrainingJobDefinition=None,
            tuning=config(HyperParameterTuningJobObjective=None, ParameterRanges=None),
            TrainingJobDefinitions=[definition(**SEVERAL)] * 2,
        ),
        "must be unique",
    ),
    "a parent that is not": (
        request(
            WarmStartConfig={
                "ParentHyperParameterTuningJobs": [{"HyperParameterTuningJobName": "no-such"}],
                "WarmStartType": "TransferLearning",
            }
        ),
        "no-such does not exist",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_sagemaker_refuses_is_refused_and_changes_nothing(world, name):
    members, text = REFUSED[name]
    with pytest.raises(AwsError) as caught:
        world.call("CreateHyperParameterTuningJob", **members)
    assert caught.value.code == "ValidationException"
    assert text in caught.value.message
    with world.database.read() as session:
        assert session.scalar(select(func.count()).select_from(TuningJob)) == 0
    assert world.control.woken == 0


@pytest.mark.parametrize(
    "limits", [{"MaxParallelTrainingJobs": 11}, {"MaxParallelTrainingJobs": 1, "MaxNumberOfTrainingJobs": 751}]
)
def test_quotas_are_sagemakers(world, limits):
    with pytest.raises(AwsError) as caught:
        create(world, tuning=config(ResourceLimits=limits))
    assert caught.value.code == "ResourceLimitExceeded"
    ranges = {"IntegerParameterRanges": [{**DEPTH, "Name": f"p{number}"} for number in range(30)]}
    with pytest.raises(AwsError) as caught:
        create(world, tuning=config(ParameterRanges={**ranges, "ContinuousParameterRanges": [ETA]}))
    assert caught.value.code == "ResourceLimitExceeded"


def test_names_are_unique_whatever_their_case(world):
    create(world, "tune")
    with pytest.raises(AwsError, match="A hyperparameter tuning job with the name, Tune, already exists") as caught:
        create(world, "Tune")
    assert caught.value.code == "ResourceInUse"


@pytest.mark.parametrize(("gpus", "chosen"), [(0, 1), (1, 1), (2, 0)])
def test_the_resource_config_of_either_sdk_reaches_the_children(world, monkeypatch, gpus, chosen):
    monkeypatch.setattr(world.control, "gpus", lambda: gpus)
    resources = {"InstanceType": "ml.m5.xlarge", "InstanceCount": 3, "VolumeSizeInGB": 5}
    create(world, job=definition(ResourceConfig=None, HyperParameterTuningResourceConfig=resources))
    preferred = [
        {"InstanceType": "ml.p3.2xlarge", "InstanceCount": 2, "VolumeSizeInGB": 1},
        {"InstanceType": "ml.c5.xlarge", "InstanceCount": 2, "VolumeSizeInGB": 2},
    ]
    several = {"AllocationStrategy": "Prioritized", "InstanceConfigs": preferred}
    create(world, "several", job=definition(ResourceConfig=None, HyperParameterTuningResourceConfig=several))
    for name, expected in (("tune", resources), ("several", preferred[chosen])):
        world.tuner.advance(name)
        job = children(world, name)["TrainingJobSummaries"][0]["TrainingJobName"]
        assert world.call("DescribeTrainingJob", TrainingJobName=job)["ResourceConfig"] == expected
        assert describe(world, name)["TrainingJobDefinition"]["ResourceConfig"] == expected
    described = describe(world)["TrainingJobDefinition"]
    assert described["HyperParameterTuningResourceConfig"] == described["ResourceConfig"] == resources
    # A host with GPUs that comes later is for new tuning jobs: a job's children are all alike.
    monkeypatch.setattr(world.control, "gpus", lambda: 2)
    run(world, [0.1, 0.2, 0.3], "several")
    jobs = [each["TrainingJobName"] for each in children(world, "several")["TrainingJobSummaries"]]
    assert len(jobs) == 3
    for job in jobs:
        assert world.call("DescribeTrainingJob", TrainingJobName=job)["ResourceConfig"] == preferred[chosen]
    filters = [{"Name": "HyperParameterTuningJobName", "Value": "several"}]
    found = world.call("Search", Resource="HyperParameterTuningJob", SearchExpression={"Filters": filters})["Results"]
    assert [each["HyperParameterTuningJob"]["TrainingJobDefinition"]["ResourceConfig"] for each in found] == [preferred[chosen]]


def test_the_children_of_a_tuning_job_of_a_version_that_kept_no_choice_are_as_it_made_them(world):
    preferred = [
        {"InstanceType": "ml.p3.2xlarge", "InstanceCount": 2, "VolumeSizeInGB": 1},
        {"InstanceType": "ml.c5.xlarge", "InstanceCount": 2, "VolumeSizeInGB": 2},
    ]
    create(world, job=definition(ResourceConfig=None, HyperParameterTuningResourceConfig={"InstanceConfigs": preferred}))
    with world.database.write() as session:
        job = session.get_one(TuningJob, "tune")
        job.request = {**job.request, "TrainingJobDefinition": {**job.request["TrainingJobDefinition"]}}
        del job.request["TrainingJobDefinition"]["ResourceConfig"]
    world.tuner.advance("tune")
    child = children(world)["TrainingJobSummaries"][0]["TrainingJobName"]
    assert world.call("DescribeTrainingJob", TrainingJobName=child)["ResourceConfig"] == preferred[1]
    assert describe(world)["TrainingJobDefinition"]["ResourceConfig"] == preferred[1]


def test_several_algorithms_are_tuned_by_one_job(world):
    own = {
        "TrainingImage": OWN,
        "TrainingInputMode": "File",
        "MetricDefinitions": [{"Name": "validation:auc", "Regex": "auc=(.*)"}],
    }
    definitions = [
        definition(**SEVERAL),
        definition(**{**SEVERAL, "DefinitionName": "two", "AlgorithmSpecification": own}),
    ]
    general = config(most=4, HyperParameterTuningJobObjective=None, ParameterRanges=None)
    create(world, tuning=general, TrainingJobDefinition=None, TrainingJobDefinitions=definitions)
    run(world, [0.1, 0.4, 0.3, 0.2])
    best = describe(world)["BestTrainingJob"]
    assert (best["TrainingJobDefinitionName"], best["FinalHyperParameterTuningJobObjectiveMetric"]["Value"]) == ("two", 0.4)
    jobs = children(world)["TrainingJobSummaries"]
    assert [job["TrainingJobDefinitionName"] for job in jobs] == ["one", "two", "one", "two"]
    described = world.call("DescribeTrainingJob", TrainingJobName=best["TrainingJobName"])
    assert described["AlgorithmSpecification"]["TrainingImage"] == OWN


def test_a_warm_start_goes_by_its_parents(world):
    create(world, "parent")
    run(world, [0.7, 0.95, 0.8], "parent")
    warm = {"ParentHyperParameterTuningJobs": [{"HyperParameterTuningJobName": "parent"}]}
    create(world, WarmStartConfig={**warm, "WarmStartType": "IdenticalDataAndAlgorithm"})
    create(world, "other", WarmStartConfig={**warm, "WarmStartType": "TransferLearning"})
    run(world, [0.9, 0.8, 0.7])
    described = describe(world)
    assert described["BestTrainingJob"]["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] == 0.9
    overall = described["OverallBestTrainingJob"]
    assert (overall["TuningJobName"], overall["FinalHyperParameterTuningJobObjectiveMetric"]["Value"]) == ("parent", 0.95)
    world.call("DeleteHyperParameterTuningJob", HyperParameterTuningJobName="parent")
    assert describe(world)["OverallBestTrainingJob"] == overall
    run(world, [0.99, 0.8, 0.7], "other")
    assert "OverallBestTrainingJob" not in describe(world, "other")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"job": definition(StaticHyperParameters={"gamma": "1"})}, "set of tunable plus static HyperParameter names"),
        (
            {"tuning": config(HyperParameterTuningJobObjective={"Type": "Minimize", "MetricName": "validation:auc"})},
            "objective metric",
        ),
        (
            {"tuning": config(ParameterRanges={"ContinuousParameterRanges": [ETA, {**DEPTH}]})},
            "type of the hyperparameter max_depth",
        ),
    ],
)
def test_a_warm_start_must_fit_its_parents(world, changes, text):
    warm = {
        "ParentHyperParameterTuningJobs": [{"HyperParameterTuningJobName": "parent"}],
        "WarmStartType": "IdenticalDataAndAlgorithm",
    }
    create(world, "parent")
    with pytest.raises(AwsError, match="in status InProgress"):
        create(world, WarmStartConfig=warm)
    run(world, [0.7, 0.95, 0.8], "parent")
    with pytest.raises(AwsError) as caught:
        create(world, WarmStartConfig=warm, **changes)
    assert text in caught.value.message


AUC = [{"Type": "Maximize", "MetricName": "auc"}]
BOOST = {
    "TrainingImage": OWN,
    "SupportedTrainingInstanceTypes": ["ml.m5.large"],
    "SupportsDistributedTraining": True,
    "TrainingChannels": [{"Name": "train", "SupportedContentTypes": ["text/csv"], "SupportedInputModes": ["File"]}],
    "MetricDefinitions": [{"Name": "auc", "Regex": "auc:([0-9.]+)"}, {"Name": "loss", "Regex": "loss:([0-9.]+)"}],
    "SupportedHyperParameters": [
        {
            "Name": "eta",
            "Type": "Continuous",
            "Range": {"ContinuousParameterRangeSpecification": {"MinValue": "0", "MaxValue": "1"}},
            "IsTunable": True,
        },
        {"Name": "rounds", "Type": "Integer", "DefaultValue": "7"},
    ],
    "SupportedTuningJobObjectiveMetrics": AUC,
}


def by_algorithm(objective=AUC[0], **ranges):
    """The members of a tuning job with an algorithm of the account, by its name."""
    specification = {"AlgorithmName": "boost", "TrainingInputMode": "File"}
    given = ranges or {"ContinuousParameterRanges": [ETA]}
    return {
        "tuning": config(HyperParameterTuningJobObjective=objective, ParameterRanges=given),
        "job": definition(AlgorithmSpecification=specification, StaticHyperParameters=None),
    }


def test_an_algorithm_of_the_account_is_tuned_by_what_it_says(world):
    world.call("CreateAlgorithm", AlgorithmName="boost", TrainingSpecification=BOOST)
    create(world, **by_algorithm())
    world.tuner.advance("tune")
    names = [job["TrainingJobName"] for job in children(world)["TrainingJobSummaries"]]
    assert len(names) == 2
    taken = world.call("DescribeTrainingJob", TrainingJobName=names[0])
    assert taken["AlgorithmSpecification"]["AlgorithmName"].endswith(":algorithm/boost")
    assert taken["HyperParameters"].keys() == {"_tuning_objective_metric", "eta", "rounds"}


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"objective": {"Type": "Minimize", "MetricName": "loss"}}, "Minimize loss is not supported by algorithm boost"),
        ({"IntegerParameterRanges": [{**DEPTH, "Name": "rounds"}]}, "rounds is not tunable with algorithm boost"),
        ({"ContinuousParameterRanges": [{**ETA, "MaxValue": "1.5"}]}, "'1.5' of hyperparameter eta is not between 0 and 1"),
    ],
)
def test_an_algorithm_is_not_tuned_beyond_what_it_says(world, members, text):
    world.call("CreateAlgorithm", AlgorithmName="boost", TrainingSpecification=BOOST)
    with pytest.raises(AwsError, match=text):
        create(world, **by_algorithm(**members))
    assert world.call("ListHyperParameterTuningJobs")["HyperParameterTuningJobSummaries"] == []


def test_autotune_chooses_what_is_left_open(world):
    ranges = {"AutoParameters": [{"Name": "eta", "ValueHint": "0.3"}, {"Name": "max_depth", "ValueHint": "6"}]}
    create(world, tuning=config("Bayesian", None, ParameterRanges=ranges), Autotune={"Mode": "Enabled"})
    described = describe(world)
    assert described["Autotune"] == {"Mode": "Enabled"}
    assert described["HyperParameterTuningJobConfig"]["TrainingJobEarlyStoppingType"] == "Auto"
    assert described["HyperParameterTuningJobConfig"]["ParameterRanges"] == ranges
    world.tuner.advance("tune")
    tuned = children(world)["TrainingJobSummaries"][0]["TunedHyperParameters"]
    assert 0.1 <= float(tuned["eta"]) <= 0.5
    assert 0 <= int(tuned["max_depth"]) <= 10


@pytest.mark.parametrize("policy", ["refuse", "upgrade"])
def test_where_encryption_is_required_it_is_of_every_child(tmp_path, policy):
    for world in make(tmp_path, policy):
        clear = definition(EnableInterContainerTrafficEncryption=None)
        if policy == "refuse":
            with pytest.raises(AwsError, match="sagemaker:CreateHyperParameterTuningJob on resource: " + ARN) as caught:
                create(world, job=clear)
            assert caught.value.code == "AccessDeniedException"
            create(world, "single", job={**clear, "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1}})
            continue
        create(world, job=clear)
        assert describe(world)["TrainingJobDefinition"]["EnableInterContainerTrafficEncryption"] is True
        world.tuner.advance("tune")
        with world.database.read() as session:
            assert set(session.scalars(select(TrainingJob.encrypted))) == {True}


def test_a_tuning_job_from_before_encryption_was_required_starts_no_children_in_the_clear(tmp_path):
    for world in make(tmp_path):
        create(world, job=definition(EnableInterContainerTrafficEncryption=None))
        strict = Tuner(world.database, TrainingJobs(world.database, world.control, "refuse"))
        for _ in range(4):
            strict.advance("tune")
        described = describe(world)
        assert described["HyperParameterTuningJobStatus"] == "Failed"
        assert "requires inter-container traffic encryption" in described["FailureReason"]
        assert children(world) == {"TrainingJobSummaries": []}
