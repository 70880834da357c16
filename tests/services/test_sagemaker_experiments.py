"""Experiments, trials and trial components, by the handlers on a real SQLite file."""

import math
from datetime import UTC, datetime

import pytest
from test_sagemaker import request, world  # noqa: F401

from phalanx.jobs import series
from phalanx.services.sagemaker import trials
from phalanx.services.sagemaker_metrics.service import METRICS, batch_put_metrics
from phalanx.store.base import now_ms
from phalanx.store.jobs import TrainingJob
from phalanx.wire.errors import AwsError

ARN = "arn:aws:sagemaker:eu-central-1:123456789012:"
KINDS = ("Experiment", "Trial", "TrialComponent")


@pytest.fixture
def lab(world):  # noqa: F811
    """Two experiments; a trial of the first with two components, one of which is in a trial of the second too."""
    for name in ("exp-1", "exp-2"):
        world.call("CreateExperiment", ExperimentName=name, Tags=[{"Key": "of", "Value": name}])
    world.call("CreateTrial", TrialName="trial-1", ExperimentName="exp-1", MetadataProperties={"CommitId": "abc"})
    world.call("CreateTrial", TrialName="trial-2", ExperimentName="exp-2", DisplayName="second")
    for name, rate in (("part-1", 0.1), ("part-2", 0.2)):
        world.call(
            "CreateTrialComponent",
            TrialComponentName=name,
            Parameters={"rate": {"NumberValue": rate}, "kind": {"StringValue": "a.b"}},
            InputArtifacts={"data": {"Value": "s3://bucket/data"}},
            Status={"PrimaryStatus": "InProgress"},
        )
        world.call("AssociateTrialComponent", TrialName="trial-1", TrialComponentName=name)
    world.call("AssociateTrialComponent", TrialName="trial-2", TrialComponentName="part-2")
    return world


def refused(lab, code, text, operation, **members):
    with pytest.raises(AwsError, match=text) as caught:
        lab.call(operation, **members)
    assert caught.value.code == code


def names(lab, kind, **members):
    """Names of all pages of a list, two to a page."""
    found, token = [], {}
    while True:
        listed = lab.call(f"List{kind}s", MaxResults=2, **members, **token)
        found += [each[f"{kind}Name"] for each in listed[f"{kind}Summaries"]]
        if "NextToken" not in listed:
            return found
        token = {"NextToken": listed["NextToken"]}


@pytest.mark.shows(
    "CreateExperiment",
    "DescribeExperiment",
    "UpdateExperiment",
    "CreateTrial",
    "DescribeTrial",
    "UpdateTrial",
    "CreateTrialComponent",
    "DescribeTrialComponent",
    "UpdateTrialComponent",
)
@pytest.mark.parametrize(("kind", "name"), [("Experiment", "exp-1"), ("Trial", "trial-1"), ("TrialComponent", "part-1")])
def test_what_is_there_cannot_be_made_again_is_described_and_changed(lab, kind, name):
    other = {"ExperimentName": "exp-1"} if kind == "Trial" else {}
    refused(lab, "ValidationException", "already exists", f"Create{kind}", **{f"{kind}Name": name, **other})
    before = lab.call(f"Describe{kind}", **{f"{kind}Name": name})
    assert before["DisplayName"] == name
    assert before["CreatedBy"] == {"IamIdentity": {"Arn": "arn:aws:iam::123456789012:user/admin", "PrincipalId": "AIDAEXAMPLE"}}
    lab.call(f"Update{kind}", **{f"{kind}Name": name, "DisplayName": "shown"})
    after = lab.call(f"Describe{kind}", **{f"{kind}Name": name})
    assert after["DisplayName"] == "shown"
    same = {key: value for key, value in before.items() if key not in ("DisplayName", "LastModifiedTime")}
    assert same == {key: value for key, value in after.items() if key not in ("DisplayName", "LastModifiedTime")}
    for verb in ("Describe", "Update", "Delete"):
        refused(lab, "ResourceNotFound", "does not exist", f"{verb}{kind}", **{f"{kind}Name": "none"})


@pytest.mark.shows("DeleteExperiment", "DeleteTrial", "DeleteTrialComponent", "DisassociateTrialComponent")
def test_deleted_from_the_inside_out(lab):
    refused(lab, "ValidationException", "1 trials", "DeleteExperiment", ExperimentName="exp-1")
    refused(lab, "ValidationException", "2 trial components", "DeleteTrial", TrialName="trial-1")
    refused(lab, "ValidationException", "trial-1", "DeleteTrialComponent", TrialComponentName="part-1")
    for name in ("part-1", "part-2", "part-2"):
        lab.call("DisassociateTrialComponent", TrialName="trial-1", TrialComponentName=name)
    assert lab.call("DeleteTrialComponent", TrialComponentName="part-1")
    assert lab.call("DeleteTrial", TrialName="trial-1") == {"TrialArn": f"{ARN}experiment-trial/trial-1"}
    assert lab.call("DeleteExperiment", ExperimentName="exp-1") == {"ExperimentArn": f"{ARN}experiment/exp-1"}
    assert names(lab, "Experiment") == ["exp-2"]
    refused(lab, "ValidationException", "not found", "ListTags", ResourceArn=f"{ARN}experiment/exp-1")


@pytest.mark.shows("ListExperiments", "ListTrials", "ListTrialComponents", "AssociateTrialComponent")
def test_lists_filter_sort_and_page(lab):
    lab.call("CreateExperiment", ExperimentName="exp-0")
    assert names(lab, "Experiment", SortBy="Name", SortOrder="Ascending") == ["exp-0", "exp-1", "exp-2"]
    assert names(lab, "Experiment", SortBy="Name") == ["exp-2", "exp-1", "exp-0"]
    assert sorted(names(lab, "Experiment")) == ["exp-0", "exp-1", "exp-2"]
    future = datetime(2100, 1, 1, tzinfo=UTC)
    assert names(lab, "Experiment", CreatedAfter=future) == names(lab, "Trial", CreatedAfter=future) == []
    assert len(names(lab, "TrialComponent", CreatedBefore=future)) == 2
    assert names(lab, "Trial", ExperimentName="exp-2") == ["trial-2"]
    assert sorted(names(lab, "Trial", TrialComponentName="part-2")) == ["trial-1", "trial-2"]
    assert names(lab, "Trial", TrialComponentName="part-1", ExperimentName="exp-2") == []
    assert names(lab, "TrialComponent", ExperimentName="exp-2") == ["part-2"]
    assert names(lab, "TrialComponent", TrialName="trial-1", SortBy="Name", SortOrder="Ascending") == ["part-1", "part-2"]
    assert names(lab, "TrialComponent", SourceArn=f"{ARN}training-job/none") == []
    refused(lab, "ResourceNotFound", "none", "ListTrials", ExperimentName="none")
    refused(lab, "ResourceNotFound", "none", "ListTrialComponents", TrialName="none")
    refused(lab, "ValidationException", "not by", "ListTrialComponents", TrialName="trial-1", ExperimentName="exp-1")
    token = lab.call("ListExperiments", MaxResults=1)["NextToken"]
    refused(lab, "ValidationException", "NextToken", "ListExperiments", SortBy="Name", NextToken=token)
    refused(lab, "ValidationException", "NextToken", "ListTrials", NextToken="nonsense")


def test_a_component_is_changed_key_by_key(lab):
    lab.call(
        "UpdateTrialComponent",
        TrialComponentName="part-1",
        Parameters={"depth": {"NumberValue": 3.0}},
        ParametersToRemove=["kind", "unknown"],
        InputArtifactsToRemove=["data"],
        OutputArtifacts={"model": {"Value": "s3://bucket/model", "MediaType": "application/x-tar"}},
        Status={"PrimaryStatus": "Completed", "Message": "done"},
        EndTime=datetime(2026, 1, 1, tzinfo=UTC),
    )
    part = lab.call("DescribeTrialComponent", TrialComponentName=f"{ARN}experiment-trial-component/part-1")
    assert part["Parameters"] == {"rate": {"NumberValue": 0.1}, "depth": {"NumberValue": 3.0}}
    assert (part["InputArtifacts"], list(part["OutputArtifacts"])) == ({}, ["model"])
    assert part["Status"] == {"PrimaryStatus": "Completed", "Message": "done"}
    assert part["EndTime"] == datetime(2026, 1, 1, tzinfo=UTC)
    many = {f"p{number}": {"NumberValue": 1.0} for number in range(299)}
    refused(lab, "ValidationException", "at most 300", "UpdateTrialComponent", TrialComponentName="part-1", Parameters=many)
    infinite = {"x": {"NumberValue": float("inf")}}
    refused(lab, "ValidationException", "finite", "UpdateTrialComponent", TrialComponentName="part-1", Parameters=infinite)


def test_limits(lab, monkeypatch):
    monkeypatch.setattr(trials, "COMPONENTS_PER_TRIAL", 2)
    monkeypatch.setattr(trials, "TRIALS_PER_EXPERIMENT", 1)
    lab.call("CreateTrialComponent", TrialComponentName="part-3")
    members = {"TrialName": "trial-1", "TrialComponentName": "part-3"}
    refused(lab, "ResourceLimitExceeded", "Trial components", "AssociateTrialComponent", **members)
    refused(lab, "ResourceLimitExceeded", "Trials", "CreateTrial", TrialName="trial-3", ExperimentName="exp-1")
    lab.call("AssociateTrialComponent", TrialName="trial-1", TrialComponentName="part-1")  # it is in it already


def started(lab, **config):
    lab.call("CreateTrainingJob", **request(ExperimentConfig=config))
    return lab.call("DescribeTrainingJob", TrainingJobName="job-1")


@pytest.mark.shows("ExperimentConfig.TrialName", "ExperimentConfig.TrialComponentDisplayName")
def test_a_job_has_a_component_that_follows_it(lab):
    described = started(lab, ExperimentName="exp-1", TrialName="trial-1", TrialComponentDisplayName="Training")
    assert described["ExperimentConfig"]["TrialName"] == "trial-1"
    arn = described["TrainingJobArn"]
    (listed,) = lab.call("ListTrialComponents", SourceArn=arn)["TrialComponentSummaries"]
    name = "job-1-aws-training-job"
    assert (listed["TrialComponentName"], listed["DisplayName"]) == (name, "Training")
    assert listed["TrialComponentSource"] == {"SourceArn": arn, "SourceType": "SageMakerTrainingJob"}
    assert listed["Status"]["PrimaryStatus"] == "InProgress"
    assert name in names(lab, "TrialComponent", TrialName="trial-1")
    now = now_ms()
    with lab.database.write() as session:
        job = session.get_one(TrainingJob, "job-1")
        series.record(session, "job-1", "", [("auc", 0.5, now), ("auc", 0.7, now), ("auc", 0.9, now + 61_000)], series.MINUTE)
        job.status, job.secondary_status, job.stage, job.model_uri = "Completed", "Completed", "ended", "s3://bucket/model"
        job.training_started = now
        job.training_ended = job.modified = now + 1000
        job.metrics = {"auc": [0.9, now]}
    part = lab.call("DescribeTrialComponent", TrialComponentName=name)
    assert part["Status"]["PrimaryStatus"] == "Completed"
    assert part["Parameters"]["num_round"] == {"NumberValue": 10.0}
    assert part["Parameters"]["SageMaker.InstanceType"] == {"StringValue": "ml.m5.large"}
    image = part["InputArtifacts"]["SageMaker.ImageUri"]["Value"]
    assert part["Parameters"]["SageMaker.ImageUri"] == {"StringValue": image}
    assert part["LastModifiedTime"] >= part["EndTime"]
    assert part["InputArtifacts"]["train"] == {"MediaType": "text/csv", "Value": "s3://bucket/data/train"}
    assert part["OutputArtifacts"] == {"SageMaker.ModelArtifact": {"Value": "s3://bucket/model"}}
    (metric,) = part["Metrics"]
    assert (metric["Count"], metric["Min"], metric["Max"], metric["Last"]) == (3, 0.5, 0.9, 0.9)
    assert metric["Avg"] == pytest.approx(0.7)
    assert metric["StdDev"] == pytest.approx(0.16329931)
    # Of a job that is gone the component keeps what it had come to.
    lab.call("DeleteTrainingJob", TrainingJobName="job-1")
    assert lab.call("DescribeTrialComponent", TrialComponentName=name) == part
    # What a program logs is something else, though it have the same name.
    point = {"MetricName": "auc", "Timestamp": datetime.now(UTC), "Value": 0.1}
    batch_put_metrics(lab.database, {"TrialComponentName": name, "MetricData": [point]})
    logged, of_job = lab.call("DescribeTrialComponent", TrialComponentName=name)["Metrics"]
    assert (logged["Count"], logged["Last"], of_job) == (1, 0.1, metric)
    # Both outlast jobs made anew under the name, with which the component has nothing to do.
    part = lab.call("DescribeTrialComponent", TrialComponentName=name)
    for _ in range(2):
        lab.call("CreateTrainingJob", **request("job-1", HyperParameters={"num_round": "999"}))
        with lab.database.write() as session:
            series.record(session, "job-1", "", [("auc", 0.1, now)], series.MINUTE)
        assert lab.call("DescribeTrialComponent", TrialComponentName=name) == part
        (found,) = lab.call("Search", Resource="ExperimentTrialComponent", SearchExpression=IS_TRAINING)["Results"]
        assert "TrainingJob" not in found["TrialComponent"]["SourceDetail"]
        delete(lab)
    assert lab.call("DescribeTrialComponent", TrialComponentName=name) == part


IS_TRAINING = {"Filters": [{"Name": "DisplayName", "Operator": "Equals", "Value": "Training"}]}


def delete(lab):
    with lab.database.write() as session:
        job = session.get_one(TrainingJob, "job-1")
        job.status, job.stage = "Completed", "ended"
    lab.call("DeleteTrainingJob", TrainingJobName="job-1")


@pytest.mark.parametrize(
    ("config", "trial"),
    [({"TrialName": "trial-1"}, "trial-1"), ({"ExperimentName": "exp-1"}, "job-1-aws-trial")],
)
def test_a_job_made_anew_has_a_component_of_its_own_beside_the_one_before(lab, config, trial):
    before = set(names(lab, "TrialComponent"))
    for number in ("1", "2", "3"):
        lab.call("CreateTrainingJob", **request("job-1", HyperParameters={"number": number}, ExperimentConfig=config))
        if number != "3":
            delete(lab)
    made = [f"job-1-aws-training-job{end}" for end in ("", "-2", "-3")]
    assert set(names(lab, "TrialComponent")) - before == set(made)
    assert set(made) <= set(names(lab, "TrialComponent", TrialName=trial))
    found = [lab.call("DescribeTrialComponent", TrialComponentName=name) for name in made]
    assert [part["Parameters"]["number"]["NumberValue"] for part in found] == [1, 2, 3]
    assert [part["Status"]["PrimaryStatus"] for part in found] == ["Completed", "Completed", "InProgress"]


def test_a_job_made_anew_in_another_experiment_has_another_trial(lab):
    for name in ("exp-1", "exp-2"):
        lab.call("CreateTrainingJob", **request("job-1", ExperimentConfig={"ExperimentName": name}))
        delete(lab)
    assert "job-1-aws-trial" in names(lab, "Trial", ExperimentName="exp-1")
    assert "job-1-aws-trial-2" in names(lab, "Trial", ExperimentName="exp-2")
    assert names(lab, "TrialComponent", TrialName="job-1-aws-trial-2") == ["job-1-aws-training-job-2"]


@pytest.mark.shows("ExperimentConfig.ExperimentName")
def test_a_job_without_a_trial_gets_one(lab):
    started(lab, ExperimentName="exp-2")
    assert sorted(names(lab, "Trial", ExperimentName="exp-2")) == ["job-1-aws-trial", "trial-2"]
    assert names(lab, "TrialComponent", TrialName="job-1-aws-trial") == ["job-1-aws-training-job"]


@pytest.mark.shows("ExperimentConfig.RunName")
def test_a_run_follows_its_first_job(lab):
    started(lab, ExperimentName="exp-1", TrialName="trial-1", RunName="part-1")
    assert lab.call("DescribeTrialComponent", TrialComponentName="part-1")["Source"]["SourceArn"] == f"{ARN}training-job/job-1"
    lab.call("CreateTrainingJob", **request("job-2", ExperimentConfig={"TrialName": "trial-1", "RunName": "part-1"}))
    assert "job-2-aws-training-job" in names(lab, "TrialComponent", TrialName="trial-1")


@pytest.mark.parametrize(
    ("config", "code"),
    [
        ({"ExperimentName": "none"}, "ResourceNotFound"),
        ({"TrialName": "none"}, "ResourceNotFound"),
        ({"RunName": "none"}, "ResourceNotFound"),
        ({"ExperimentName": "exp-2", "TrialName": "trial-1"}, "ValidationException"),
    ],
)
def test_a_job_whose_experiment_is_not_there_is_refused(lab, config, code):
    refused(lab, code, ".", "CreateTrainingJob", **request(ExperimentConfig=config))
    assert lab.call("ListTrainingJobs")["TrainingJobSummaries"] == []
    assert len(names(lab, "TrialComponent")) == 2


def found(lab, resource, *filters, **members):
    expression = {"Filters": [dict(zip(("Name", "Operator", "Value"), each, strict=True)) for each in filters]}
    response = lab.call("Search", Resource=resource, SearchExpression=expression if filters else {}, **members)
    kind = resource.removeprefix("Experiment") or "Experiment"
    return [each[kind][f"{kind}Name"] for each in response["Results"]]


def test_search(lab):
    assert found(lab, "Experiment", ("Tags.of", "Equals", "exp-2")) == ["exp-2"]
    assert found(lab, "ExperimentTrial", ("ExperimentName", "Equals", "exp-1")) == ["trial-1"]
    assert found(lab, "ExperimentTrial", ("TrialComponentSummaries.TrialComponentName", "Equals", "part-1")) == ["trial-1"]
    component = "ExperimentTrialComponent"
    assert found(lab, component, ("Parameters.rate", "GreaterThan", "0.15")) == ["part-2"]
    assert found(lab, component, ("Parents.ExperimentName", "Equals", "exp-2")) == ["part-2"]
    assert found(lab, component, SortBy="Parameters.rate", SortOrder="Ascending") == ["part-1", "part-2"]
    started(lab, TrialName="trial-2")
    with lab.database.write() as session:
        series.record(session, "job-1", "", [("auc", 0.5, now_ms())], series.SECOND)
    for spelling in ("Metrics.auc.max", "metrics.auc.max"):
        assert found(lab, component, (spelling, "GreaterThan", "0.4")) == ["job-1-aws-training-job"]
    assert found(lab, component, ("SourceDetail.TrainingJob.TrainingJobName", "Equals", "job-1")) == ["job-1-aws-training-job"]
    assert found(lab, component, CrossAccountFilterOption="CrossAccount") == []

    def suggested(resource, hint):
        query = {"PropertyNameQuery": {"PropertyNameHint": hint}}
        listed = lab.call("GetSearchSuggestions", Resource=resource, SuggestionQuery=query)
        return [each["PropertyName"] for each in listed["PropertyNameSuggestions"]]

    assert suggested(component, "parameters.r") == ["Parameters.rate"]
    assert "Metrics.auc.StdDev" in suggested(component, "metrics")
    assert suggested("Experiment", "tags") == ["Tags.of"]
    assert suggested("ExperimentTrial", "metadata") == ["MetadataProperties.CommitId"]


@pytest.mark.parametrize("resource", ["experiment/exp-1", "experiment-trial/trial-1", "experiment-trial-component/part-1"])
def test_tags(lab, resource):
    arn = ARN + resource
    lab.call("AddTags", ResourceArn=arn, Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])
    lab.call("DeleteTags", ResourceArn=arn, TagKeys=["a"])
    assert {"Key": "b", "Value": "2"} in lab.call("ListTags", ResourceArn=arn)["Tags"]
    refused(lab, "ValidationException", "not found", "AddTags", ResourceArn=arn + "x", Tags=[])


@pytest.mark.shows("BatchPutMetrics")
def test_what_a_run_logs_is_summed_up_in_its_component(lab):
    def put(*values, names=("loss",), component="part-1"):
        points = [
            {"MetricName": name, "Timestamp": at(second), "Step": second, "Value": value}
            for name in names
            for second, value in values
        ]
        return batch_put_metrics(lab.database, {"TrialComponentName": component, "MetricData": points})

    def at(second):
        return datetime(2026, 11, 30, 12, 0, second, tzinfo=UTC)

    assert put((0, 3.0), (1, 2.0)) == {}
    assert put((2, 1.0)) == {}
    # One that comes late is not the last one, and what is no number is told of and spoils nothing.
    assert put((1, 4.0), (4, math.nan)) == {"Errors": [{"Code": "VALIDATION_ERROR", "MetricIndex": 1}]}
    # Nor are those whose squares are none.
    assert put((4, -1.7e308)) == {"Errors": [{"Code": "VALIDATION_ERROR", "MetricIndex": 0}]}
    put((0, 0.5), names=["accuracy"])
    (loss, accuracy) = lab.call("DescribeTrialComponent", TrialComponentName="part-1")["Metrics"]
    assert loss == {
        "MetricName": "loss",
        "Min": 1.0,
        "Max": 4.0,
        "Avg": 2.5,
        "Last": 1.0,
        "Count": 4,
        "StdDev": pytest.approx(math.sqrt(1.25)),
        "TimeStamp": at(2),
    }
    assert (accuracy["MetricName"], accuracy["Last"]) == ("accuracy", 0.5)
    found = lab.call(
        "Search",
        Resource="ExperimentTrialComponent",
        SearchExpression={"Filters": [{"Name": "Metrics.loss.Max", "Operator": "GreaterThan", "Value": "3.5"}]},
    )
    assert [each["TrialComponent"]["TrialComponentName"] for each in found["Results"]] == ["part-1"]
    assert put((0, 1.0), names=[f"m{number}" for number in range(METRICS - 2)]) == {}
    assert put((0, 1.0), names=["more"]) == {"Errors": [{"Code": "METRIC_LIMIT_EXCEEDED", "MetricIndex": 0}]}
    with pytest.raises(AwsError, match="nobody"):
        put((0, 1.0), component="nobody")
