"""Metrics of training jobs, read by boto3 and the AWS CLI against a live server, over series as jobs write them."""

from datetime import UTC, datetime, timedelta

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from live_server import serving
from test_sagemaker import request

from phalanx.jobs import series
from phalanx.services.cloudwatch.service import service
from phalanx.store.base import Base
from phalanx.store.database import Database, sqlite_url
from phalanx.store.jobs import TrainingJob

SPACE = "/aws/sagemaker/TrainingJobs"
START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
T0 = int(START.timestamp() * 1000)
OF_JOB = [{"Name": "TrainingJobName", "Value": "job-1"}]
OF_HOST = [{"Name": "Host", "Value": "job-1/algo-2"}]


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """A server whose database has a job with a metric by the second, and two instances with a sample each."""
    database = Database(sqlite_url(tmp_path_factory.mktemp("cloudwatch") / "phalanx.db"))
    Base.metadata.create_all(database.engine)
    with database.write() as session:
        for name in ("job-1", "job-2"):
            session.add(
                TrainingJob(
                    name=name, arn=f"arn:{name}", request=request(name), status="Completed", secondary_status="Completed",
                    created=T0, modified=T0, instances=2, encrypted=True,
                )
            )  # fmt: skip
        session.flush()
        values = [("auc", float(second), T0 + 1000 * second) for second in range(150)]
        series.record(session, "job-1", "", values, series.SECOND)
        series.record(session, "job-2", "", values, series.MINUTE)
        for host in ("algo-1", "algo-2"):
            series.record(session, "job-1", host, [("CPUUtilization", 150.0, T0), ("CPUUtilization", 50.0, T0)], series.MINUTE)
    with serving([service(database)]) as url:
        yield {
            "endpoint_url": url,
            "region_name": "eu-central-1",
            "aws_access_key_id": "AKIAEXAMPLE",
            "aws_secret_access_key": "secret",
        }
    database.close()


@pytest.fixture(scope="module", params=["json", "smithy-rpc-v2-cbor", "query"])
def client(settings, request):
    """boto3, which speaks the first of its protocols that a service has: this version JSON, others the other two."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("botocore.model.PRIORITY_ORDERED_SUPPORTED_PROTOCOLS", (request.param,))
        client = boto3.session.Session().client("cloudwatch", **settings, config=Config(retries={"total_max_attempts": 1}))
        assert client.meta.service_model.resolved_protocol == request.param
        yield client


def statistics(client, **changes):
    members = {
        "Namespace": SPACE,
        "MetricName": "auc",
        "Dimensions": OF_JOB,
        "StartTime": START,
        "EndTime": START + timedelta(minutes=10),
        "Period": 60,
        "Statistics": ["Average", "Sum", "Minimum", "Maximum", "SampleCount"],
    }
    given = {**members, **changes}
    response = client.get_metric_statistics(**{name: value for name, value in given.items() if value is not None})
    return sorted(response["Datapoints"], key=lambda point: point["Timestamp"])


def test_statistics_by_the_minute(client):
    first, second, third = statistics(client)
    told = {"SampleCount": 60.0, "Average": 29.5, "Sum": 1770.0, "Minimum": 0.0, "Maximum": 59.0}
    assert first == {"Timestamp": START, "Unit": "None", **told}
    assert (second["Average"], third["SampleCount"]) == (89.5, 30.0)
    # The same where only minutes were kept.
    assert statistics(client, Dimensions=[{"Name": "TrainingJobName", "Value": "job-2"}])[0] == first


def test_statistics_by_the_second_and_percentiles(client):
    points = statistics(client, Period=1, EndTime=START + timedelta(seconds=10))
    assert [point["Average"] for point in points] == list(map(float, range(10)))
    # Periods begin at the start, rounded down to a minute.
    (point,) = statistics(
        client, StartTime=START + timedelta(seconds=7), Period=3600, Statistics=None, ExtendedStatistics=["p50", "p100"]
    )
    assert point["Timestamp"] == START
    assert point["ExtendedStatistics"] == {"p50": 74.0, "p100": 149.0}
    # Of a set of many values no percentile is known.
    job_2 = [{"Name": "TrainingJobName", "Value": "job-2"}]
    assert statistics(client, Dimensions=job_2, Statistics=None, ExtendedStatistics=["p50"]) == []


def test_instances(client):
    (point,) = statistics(client, MetricName="CPUUtilization", Dimensions=OF_HOST, Unit="Percent")
    assert (point["Average"], point["Maximum"], point["Unit"]) == (100.0, 150.0, "Percent")


@pytest.mark.parametrize(
    "changes",
    [
        {"Namespace": "AWS/EC2"},
        {"MetricName": "none"},
        {"Dimensions": None},
        {"Dimensions": OF_HOST},
        {"Dimensions": OF_JOB + OF_HOST},
        {"Dimensions": [{"Name": "Other", "Value": "job-1"}]},
        {"Unit": "Percent"},
        {"StartTime": START - timedelta(hours=2), "EndTime": START},
    ],
)
def test_nothing_where_there_is_nothing(client, changes):
    assert statistics(client, **changes) == []


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"Period": 7}, "InvalidParameterValue"),
        ({"EndTime": START}, "InvalidParameterValue"),
        ({"Period": 1, "EndTime": START + timedelta(hours=1)}, "InvalidParameterCombination"),
        ({"Statistics": None}, "InvalidParameterCombination"),
        ({"ExtendedStatistics": ["p50"]}, "InvalidParameterCombination"),
        ({"Statistics": None, "ExtendedStatistics": ["pi"]}, "InvalidParameterValue"),
        ({"Statistics": ["Median"]}, "ValidationError"),
    ],
)
def test_bad_requests(client, changes, code):
    with pytest.raises(ClientError) as caught:
        statistics(client, **changes)
    assert caught.value.response["Error"]["Code"] == code
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def query(id_, **changes):
    stat = {"Metric": {"Namespace": SPACE, "MetricName": "auc", "Dimensions": OF_JOB}, "Period": 60, "Stat": "Maximum"}
    return {"Id": id_, "MetricStat": {**stat, **changes}}


def test_data_of_several_metrics_in_pages(client):
    host = {"Namespace": SPACE, "MetricName": "CPUUtilization", "Dimensions": OF_HOST}
    queries = [
        query("a"),
        {**query("b", Metric=host), "Label": "cpu"},
        {**query("c"), "ReturnData": False},
        query("d", Period=1),
    ]
    asked = {"MetricDataQueries": queries, "StartTime": START, "EndTime": START + timedelta(hours=1)}
    whole = client.get_metric_data(**asked, ScanBy="TimestampAscending")["MetricDataResults"]
    assert [(each["Id"], each["Label"], each["StatusCode"]) for each in whole] == [
        ("a", "auc", "Complete"), ("b", "cpu", "Complete"), ("d", "auc", "Complete"),
    ]  # fmt: skip
    assert whole[0]["Values"] == [59.0, 119.0, 149.0]
    assert whole[0]["Timestamps"] == [START + timedelta(minutes=number) for number in range(3)]
    assert client.get_metric_data(**asked)["MetricDataResults"][0]["Values"] == [149.0, 119.0, 59.0]
    pages = list(client.get_paginator("get_metric_data").paginate(**asked, MaxDatapoints=2))
    paged = {}
    for page in pages:
        assert sum(len(each["Values"]) for each in page["MetricDataResults"]) <= 2
        for each in page["MetricDataResults"]:
            paged.setdefault(each["Id"], []).extend(each["Values"])
    assert paged == {each["Id"]: each["Values"][::-1] for each in whole}


@pytest.mark.parametrize(
    ("queries", "text"),
    [
        ([query("a"), query("a")], "unique"),
        ([query("A")], "small letter"),
        ([{"Id": "a", "Expression": "SUM(METRICS())"}], "metric math"),
        ([{"Id": "a"}], "needs a MetricStat"),
        ([query("a", Period=61)], "Period"),
    ],
)
def test_bad_queries(client, queries, text):
    with pytest.raises(ClientError, match=text):
        client.get_metric_data(MetricDataQueries=queries, StartTime=START, EndTime=START + timedelta(hours=1))


def test_metrics_are_listed(client, monkeypatch):
    def listed(**members):
        pages = client.get_paginator("list_metrics").paginate(**members)
        return [(each["MetricName"], each["Dimensions"][0]["Value"]) for page in pages for each in page["Metrics"]]

    everything = [
        ("auc", "job-1"), ("auc", "job-2"), ("CPUUtilization", "job-1/algo-1"), ("CPUUtilization", "job-1/algo-2"),
    ]  # fmt: skip
    assert listed() == listed(Namespace=SPACE) == everything
    monkeypatch.setattr("phalanx.services.cloudwatch.metrics.MOST_METRICS", 3)
    assert listed() == everything
    assert listed(Namespace="AWS/EC2") == listed(RecentlyActive="PT3H") == []
    assert listed(MetricName="auc", Dimensions=OF_JOB) == everything[:1]
    assert listed(Dimensions=[{"Name": "Host"}]) == everything[2:]
    with pytest.raises(ClientError, match="NextToken"):
        client.list_metrics(NextToken="nonsense")


def test_a_signature_that_does_not_fit_is_refused(client, monkeypatch):
    monkeypatch.setattr(client._request_signer._credentials, "secret_key", "wrong")
    with pytest.raises(ClientError, match="signature we calculated does not match"):
        client.list_metrics()


def test_the_aws_cli_reads_them_too(aws):
    told = aws(
        f"aws cloudwatch get-metric-statistics --namespace {SPACE} --metric-name CPUUtilization --period 60"
        " --statistics Average --dimensions Name=Host,Value=job-1/algo-1 --start-time 2026-03-01T12:00:00Z"
        " --end-time 2026-03-01T13:00:00Z"
    )
    assert told["Datapoints"][0]["Average"] == 100.0
