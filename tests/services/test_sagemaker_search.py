"""Search over training jobs, by the handlers on a real SQLite file."""

import json

import pytest
from test_sagemaker import request, world  # noqa: F401

from phalanx.services import tokens
from phalanx.store.base import now_ms
from phalanx.store.jobs import TrainingJob
from phalanx.wire.errors import AwsError


@pytest.fixture
def jobs(world):  # noqa: F811
    """Six jobs: job-0 the oldest; eta 0.0 to 0.5, auc 0.9 downwards, one or two instances, every other one completed."""
    base = now_ms()
    for number in range(6):
        members = request(
            f"job-{number}",
            HyperParameters={"eta": f"0.{number}", "tree.method": "hist" if number < 3 else "exact"},
            ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1 + number % 2, "VolumeSizeInGB": 1},
            Tags=[{"Key": "team", "Value": "red" if number < 2 else "blue"}],
        )
        members["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3Uri"] = f"s3://bucket/data/{number}"
        world.call("CreateTrainingJob", **members)
        with world.database.write() as session:
            job = session.get_one(TrainingJob, f"job-{number}")
            job.created = job.modified = base + 1000 * number
            job.metrics = {"validation:auc": [0.9 - number / 10, base]}
            job.status = "Completed" if number % 2 else "Failed"
    return world


def numbers(response):
    return [int(each["TrainingJob"]["TrainingJobName"][-1]) for each in response["Results"]]


def find(world, **members):  # noqa: F811
    return numbers(world.call("Search", Resource="TrainingJob", **members))


def where(name, operator=None, value=None):
    return {"Name": name, **({"Operator": operator} if operator else {}), **({"Value": value} if value else {})}


def test_everything_last_modified_first(jobs):
    response = jobs.call("Search", Resource="TrainingJob")
    assert numbers(response) == [5, 4, 3, 2, 1, 0]
    assert response["TotalHits"] == {"Value": 6, "Relation": "EqualTo"}
    assert "NextToken" not in response
    record = response["Results"][0]["TrainingJob"]
    described = jobs.call("DescribeTrainingJob", TrainingJobName="job-5")
    assert record == {**described, "Tags": [{"Key": "team", "Value": "blue"}]}


@pytest.mark.shows("Search")
@pytest.mark.parametrize(
    ("name", "operator", "value", "expected"),
    [
        ("TrainingJobName", "Equals", "job-3", {3}),
        ("TrainingJobName", None, "job-3", {3}),
        ("TrainingJobName", "Contains", "JOB", {0, 1, 2, 3, 4, 5}),
        ("TrainingJobName", "In", "job-1,job-4,none", {1, 4}),
        ("TrainingJobStatus", "NotEquals", "Failed", {1, 3, 5}),
        ("ResourceConfig.InstanceCount", "GreaterThan", "1", {1, 3, 5}),
        ("ResourceConfig.InstanceCount", "Equals", "2.0", {1, 3, 5}),
        ("HyperParameters.eta", "LessThanOrEqualTo", "0.2", {0, 1, 2}),
        ("HyperParameters.tree.method", "Equals", "hist", {0, 1, 2}),
        ("Metrics.validation:auc", "GreaterThanOrEqualTo", "0.65", {0, 1, 2}),
        ("Tags.team", "Equals", "red", {0, 1}),
        ("EnableInterContainerTrafficEncryption", "Equals", "true", {0, 1, 2, 3, 4, 5}),
        ("EnableInterContainerTrafficEncryption", None, "False", set()),
        ("EnableInterContainerTrafficEncryption", None, "1", set()),
        ("TrainingJobStatus", None, "Failed", {0, 2, 4}),
        ("TrainingJobStatus", None, "Failed\0", set()),
        ("TrainingJobName", None, "\ud800", set()),
        ("FailureReason", "NotExists", None, {0, 1, 2, 3, 4, 5}),
        ("Tags.other", "Exists", None, set()),
        ("CreationTime", "LessThan", "2000-01-01T00:00:00Z", set()),
        ("CreationTime", "GreaterThan", "2000-01-01T00:00:00+02:00", {0, 1, 2, 3, 4, 5}),
        ("CreationTime", "GreaterThan", "yesterday", set()),
        ("InputDataConfig.DataSource.S3DataSource.S3Uri", "Contains", "data/4", {4}),
        ("NoSuchProperty", "Equals", "x", set()),
        ("NoSuchProperty", "NotEquals", "x", {0, 1, 2, 3, 4, 5}),
    ],
)
def test_filters(jobs, name, operator, value, expected):
    assert set(find(jobs, SearchExpression={"Filters": [where(name, operator, value)]})) == expected


def test_expressions_nest(jobs):
    either = {"Filters": [where("TrainingJobName", None, "job-0"), where("TrainingJobName", None, "job-5")], "Operator": "Or"}
    completed = {"Filters": [where("TrainingJobStatus", "Equals", "Completed")]}
    assert set(find(jobs, SearchExpression={"SubExpressions": [either, completed]})) == {5}
    assert set(find(jobs, SearchExpression={"SubExpressions": [either, completed], "Operator": "Or"})) == {0, 1, 3, 5}


def test_nested_filters_hold_for_one_element(jobs):
    def nested(channel, uri):
        name = "InputDataConfig"
        filters = [
            where(f"{name}.ChannelName", "Equals", channel),
            where(f"{name}.DataSource.S3DataSource.S3Uri", "Contains", uri),
        ]
        return {"NestedFilters": [{"NestedPropertyName": name, "Filters": filters}]}

    assert find(jobs, SearchExpression=nested("train", "data/2")) == [2]
    assert find(jobs, SearchExpression=nested("test", "data/2")) == []


@pytest.mark.parametrize("order", ["Ascending", "Descending"])
@pytest.mark.parametrize(
    "sort", ["CreationTime", "TrainingJobStatus", "Metrics.validation:auc", "ResourceConfig.InstanceCount", "Nothing"]
)
@pytest.mark.parametrize("size", [1, 4])
def test_every_order_pages_through_all_once(jobs, sort, order, size):
    found, token = [], {}
    while True:
        response = jobs.call("Search", Resource="TrainingJob", SortBy=sort, SortOrder=order, MaxResults=size, **token)
        assert response["TotalHits"]["Value"] == 6
        found += numbers(response)
        if "NextToken" not in response:
            break
        token = {"NextToken": response["NextToken"]}
    assert sorted(found) == [0, 1, 2, 3, 4, 5]
    everything = find(jobs, SortBy=sort, SortOrder=order)
    assert found == everything
    if sort == "Metrics.validation:auc":
        assert everything == ([5, 4, 3, 2, 1, 0] if order == "Ascending" else [0, 1, 2, 3, 4, 5])


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ([("Tags.team", "red")], {0, 1, 6}),
        ([("Tags.team", "blue"), ("Tags.stage", "test")], {2, 3, 4, 5}),
        ([("Tags.team", "red"), ("Tags.team", "blue")], {6}),
        ([("Tags.stage", "prod"), ("Tags.a.b", "c")], {0, 1, 2, 3, 4, 5, 6}),
        ([("Tags.team", "")], {6}),
    ],
)
def test_a_tag_with_another_value_hides_a_job(jobs, conditions, expected):
    jobs.call("CreateTrainingJob", **request("job-6", Tags=[{"Key": "stage", "Value": "prod"}]))
    asked = {"Resource": "TrainingJob", "VisibilityConditions": [{"Key": key, "Value": value} for key, value in conditions]}
    found, token = [], {}
    while True:
        response = jobs.call("Search", MaxResults=2, **asked, **token)
        assert response["TotalHits"]["Value"] == len(expected)
        found += numbers(response)
        if "NextToken" not in response:
            break
        token = {"NextToken": response["NextToken"]}
        with pytest.raises(AwsError, match="Invalid NextToken"):
            jobs.call("Search", Resource="TrainingJob", **token)
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"VisibilityConditions": [{"Key": "TrainingJobName", "Value": "a"}]}, "must be Tags. and the key of a tag"),
        ({"VisibilityConditions": [{"Key": "Tags.", "Value": "a"}]}, "must be Tags. and the key of a tag"),
        ({"VisibilityConditions": [{"Value": "a"}]}, "must be Tags. and the key of a tag"),
        ({"SearchExpression": {"Filters": [where("A", "Exists", "x")]}}, "takes no Value"),
        ({"SearchExpression": {"Filters": [where("A", "Equals")]}}, "needs a Value"),
        ({"SearchExpression": {"Filters": [where("A", "In", "1,2,3,4,5,6,7,8,9,10,11")]}}, "at most 10 values"),
        ({"SearchExpression": {"SubExpressions": [{"Filters": [where("A", "Exists")] * 20}] * 3}}, "more than 50"),
        ({"NextToken": "nonsense"}, "Invalid NextToken"),
    ],
)
def test_refused(jobs, members, text):
    with pytest.raises(AwsError, match=text) as caught:
        jobs.call("Search", Resource="TrainingJob", **members)
    assert caught.value.code == "ValidationException"


@pytest.mark.parametrize(
    ("operator", "value", "expected"),
    [
        ("Exists", None, {"with"}),
        ("NotExists", None, {"without"}),
        ("Equals", "None", set()),
        ("NotEquals", "None", {"with", "without"}),
        ("Contains", "on", set()),
    ],
)
def test_what_was_not_given_is_no_value(world, operator, value, expected):  # noqa: F811
    world.call("CreateExperiment", ExperimentName="with", Description="text")
    world.call("CreateExperiment", ExperimentName="without")
    expression = {"Filters": [where("Description", operator, value)]}
    response = world.call("Search", Resource="Experiment", SearchExpression=expression)
    assert {each["Experiment"]["ExperimentName"] for each in response["Results"]} == expected


def test_a_token_belongs_to_its_search(jobs):
    token = jobs.call("Search", Resource="TrainingJob", MaxResults=2)["NextToken"]
    with pytest.raises(AwsError, match="Invalid NextToken"):
        jobs.call("Search", Resource="TrainingJob", SortBy="CreationTime", NextToken=token)


SLOWLY = where("TrainingJobName", "Exists")
"""What every job satisfies, which the store cannot tell."""


@pytest.mark.parametrize("sort", ["LastModifiedTime", "CreationTime"])
@pytest.mark.parametrize("order", ["Ascending", "Descending"])
@pytest.mark.parametrize(
    "filters",
    [
        [],
        [where("TrainingJobStatus", "Equals", "Failed")],
        [where("TrainingJobStatus", "NotEquals", "Failed"), where("EnableInterContainerTrafficEncryption", None, "False")],
        [where("TrainingJobStatus", "In", "Stopped,Failed,")],
        [where("TrainingJobName", "Contains", "B-"), where("TrainingJobName", "NotEquals", "job-4")],
        [where("TrainingJobName", "Contains", "job_")],
    ],
)
def test_what_the_store_orders_by_itself_is_what_records_are_ordered_as(jobs, sort, order, filters):
    with jobs.database.write() as session:
        for number in (1, 2):
            job = session.get_one(TrainingJob, f"job-{number}")
            job.created = job.modified = session.get_one(TrainingJob, "job-4").created
            job.status = "Failed"
    members = {"Resource": "TrainingJob", "SortBy": sort, "SortOrder": order}
    quick = {"Filters": filters} if filters else {}
    whole = jobs.call("Search", **members, SearchExpression={"Filters": [*filters, SLOWLY]})
    for size in (1, 2, 6):
        found, token = [], {}
        while token is not None:
            page = jobs.call("Search", **members, MaxResults=size, SearchExpression=quick, **token)
            found += page["Results"]
            assert page["TotalHits"] == whole["TotalHits"]
            token = {"NextToken": page["NextToken"]} if "NextToken" in page else None
        assert found == whole["Results"]


@pytest.mark.parametrize("place", [[2, "text"], [1, 1.5], [1, True], [1, 1 << 63], [1, -1], [0, 0.5], [1]])
def test_a_made_up_place_is_refused(jobs, place):
    asked, _ = tokens.decode(jobs.call("Search", Resource="TrainingJob", MaxResults=2)["NextToken"], str, str)
    inner = tokens.encode(["LastModifiedTime", 1, *place[1:], "job-4"])
    for after in (inner, json.dumps([place, "job-4"])):
        with pytest.raises(AwsError, match="Invalid NextToken"):
            jobs.call("Search", Resource="TrainingJob", MaxResults=2, NextToken=tokens.encode([asked, after]))


@pytest.mark.parametrize(
    "after", ["", "nonsense", "[" * 9000, "1", "[1, 2]", '[[1, "text"], "a"]', "[[2, 1], 2]", "[[1, 1, 1], 1]"]
)
def test_a_made_up_place_among_records_is_refused(jobs, after):
    slow = {"Resource": "TrainingJob", "MaxResults": 2, "SearchExpression": {"Filters": [SLOWLY]}}
    asked, _ = tokens.decode(jobs.call("Search", **slow)["NextToken"], str, str)
    with pytest.raises(AwsError, match="Invalid NextToken"):
        jobs.call("Search", **slow, NextToken=tokens.encode([asked, after]))


def test_other_resources_are_not_there(jobs):
    assert jobs.call("Search", Resource="Endpoint")["Results"] == []


@pytest.mark.shows("GetSearchSuggestions")
def test_suggestions(jobs):
    def suggested(hint):
        query = {"PropertyNameQuery": {"PropertyNameHint": hint}}
        response = jobs.call("GetSearchSuggestions", Resource="TrainingJob", SuggestionQuery=query)
        return [each["PropertyName"] for each in response["PropertyNameSuggestions"]]

    assert suggested("hyperp") == ["HyperParameters.eta", "HyperParameters.tree.method"]
    assert suggested("metrics") == ["Metrics.validation:auc"]
    assert "TrainingJobName" in suggested("Training")
    assert suggested("zzz") == []


def test_what_was_not_given_is_not_suggested(world):  # noqa: F811
    world.call("CreateExperiment", ExperimentName="without")
    query = {"PropertyNameQuery": {"PropertyNameHint": "desc"}}
    response = world.call("GetSearchSuggestions", Resource="Experiment", SuggestionQuery=query)
    assert response["PropertyNameSuggestions"] == []
