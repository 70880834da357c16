"""BatchGetMetrics: what BatchPutMetrics and training jobs have left, by the handlers on a real SQLite file."""

import math
import statistics
from datetime import UTC, datetime, timedelta

import pytest
from test_sagemaker import request, world  # noqa: F401
from test_sagemaker_experiments import ARN, lab  # noqa: F401

from phalanx.jobs import series
from phalanx.services.sagemaker_metrics import service
from phalanx.services.sagemaker_metrics.queries import batch_get_metrics

RUN = f"{ARN}experiment-trial-component/part-1"
NOON = datetime(2026, 11, 30, 12, 0, 0, tzinfo=UTC)
AT_NOON = int(NOON.timestamp()) * 1000
MINUTE = 60_000
STATISTICS = ("Min", "Max", "Avg", "Count", "StdDev", "Last")


def put(lab, *points):  # noqa: F811
    """Values: seconds after noon, step (None for none) and value."""
    data = [
        {
            "MetricName": "loss",
            "Timestamp": NOON + timedelta(seconds=second),
            "Value": value,
            **({} if step is None else {"Step": step}),
        }
        for second, step, value in points
    ]
    service.batch_put_metrics(lab.database, {"TrialComponentName": "part-1", "MetricData": data})


def asked(lab, statistic="Avg", period="OneMinute", arn=RUN, **members):  # noqa: F811
    query = {"MetricName": "loss", "ResourceArn": arn, "MetricStat": statistic, "Period": period, "XAxisType": "Timestamp"}
    if period == "IterationNumber":
        query["XAxisType"] = period
    (result,) = batch_get_metrics(lab.database, {"MetricQueries": [{**query, **members}]})["MetricQueryResults"]
    return result


@pytest.mark.shows("BatchGetMetrics")
def test_what_a_run_logged_over_time_and_over_its_steps(lab):  # noqa: F811
    put(lab, (0, 0, 4.0), (30, 1, 2.0), (90, 2, 1.0))
    # Late, and of a step that there was.
    put(lab, (59, 1, 3.0))
    assert asked(lab) == {
        "Status": "Complete",
        "XAxisValues": [AT_NOON, AT_NOON + MINUTE],
        "MetricValues": [3.0, 1.0],
    }
    found = {name: asked(lab, name)["MetricValues"] for name in STATISTICS}
    assert found["StdDev"] == pytest.approx([statistics.pstdev([4.0, 2.0, 3.0]), 0.0])
    assert found | {"StdDev": 0} == {
        "Min": [2.0, 1.0],
        "Max": [4.0, 1.0],
        "Avg": [3.0, 1.0],
        "Count": [3.0, 1.0],
        "Last": [3.0, 1.0],
        "StdDev": 0,
    }
    assert asked(lab, period="FiveMinute")["MetricValues"] == asked(lab, period="OneHour")["MetricValues"] == [2.5]
    by_step = asked(lab, "Last", "IterationNumber")
    assert (by_step["XAxisValues"], by_step["MetricValues"]) == ([0, 1, 2], [4.0, 3.0, 1.0])
    assert asked(lab, period="IterationNumber", Start=1, End=1)["XAxisValues"] == [1]
    assert asked(lab, Start=AT_NOON + 1)["XAxisValues"] == [AT_NOON + MINUTE]
    nothing = {"Status": "Complete", "XAxisValues": [], "MetricValues": []}
    assert asked(lab, MetricName="accuracy") == nothing


def test_what_differs_little_is_not_lost(lab):  # noqa: F811
    put(lab, (0, 0, 1e9), (1, 0, 1e9 + 1), (2, 0, 1e9 + 2))
    assert asked(lab, "StdDev")["MetricValues"] == pytest.approx([math.sqrt(2 / 3)])


def test_what_was_not_kept_is_told(lab, monkeypatch):  # noqa: F811
    monkeypatch.setattr(service, "VALUES", 2)
    put(lab, (0, 0, 1.0), (1, None, 2.0), (2, 2, 3.0))
    for period, values in (("OneMinute", [1.5]), ("IterationNumber", [1.0])):
        result = asked(lab, period=period)
        assert (result["Status"], result["MetricValues"]) == ("Truncated", values)
        assert result["Message"].startswith(f"{3 - (2 if period == 'OneMinute' else 1)} values are not among these")
    (summary,) = lab.call("DescribeTrialComponent", TrialComponentName="part-1")["Metrics"]
    assert summary["Count"] == 3


def test_a_training_job_by_its_arn_and_by_its_component(lab):  # noqa: F811
    arn = lab.call("CreateTrainingJob", **request(ExperimentConfig={"TrialName": "trial-1", "RunName": "part-1"}))[
        "TrainingJobArn"
    ]
    values = [("loss", 4.0, AT_NOON), ("loss", 2.0, AT_NOON + 1000), ("loss", 1.0, AT_NOON + MINUTE)]
    with lab.database.write() as session:
        series.record(session, "job-1", "", values, series.SECOND)
        series.record(session, "job-1", "algo-1", [("loss", 9.0, AT_NOON)], series.SECOND)
    for of in (arn, RUN):
        result = asked(lab, arn=of)
        assert (result["XAxisValues"], result["MetricValues"]) == ([AT_NOON, AT_NOON + MINUTE], [3.0, 1.0])
        assert asked(lab, "StdDev", arn=of)["MetricValues"] == pytest.approx([1.0, 0.0])
        for statistic, period in (("Last", "OneMinute"), ("Avg", "IterationNumber")):
            result = asked(lab, statistic, period, arn=of)
            assert (result["Status"], result["MetricValues"]) == ("ValidationError", [])
    # What the run has logged itself under the name comes before.
    put(lab, (0, 0, 7.0))
    assert asked(lab)["MetricValues"] == [7.0]


def test_a_query_that_cannot_be_answered_says_why_and_leaves_the_others_alone(lab):  # noqa: F811
    put(lab, (0, 0, 1.0))
    for members, text in (
        ({"arn": f"{ARN}training-job/none"}, "no training job or trial component"),
        ({"arn": RUN.replace("eu-central-1", "us-east-1")}, "no training job or trial component"),
        ({"XAxisType": "IterationNumber"}, "goes with"),
        ({"period": "IterationNumber", "XAxisType": "Timestamp"}, "goes with"),
    ):
        result = asked(lab, **members)
        assert result["Status"] == "ValidationError"
        assert text in result["Message"]
    queries = [
        {"MetricName": "loss", "ResourceArn": of, "MetricStat": "Avg", "Period": "OneMinute", "XAxisType": "Timestamp"}
        for of in (f"{ARN}training-job/none", RUN)
    ]
    results = batch_get_metrics(lab.database, {"MetricQueries": queries})["MetricQueryResults"]
    assert [result["Status"] for result in results] == ["ValidationError", "Complete"]


def test_what_was_logged_goes_with_its_component(lab):  # noqa: F811
    put(lab, (0, 0, 1.0))
    lab.call("DisassociateTrialComponent", TrialName="trial-1", TrialComponentName="part-1")
    lab.call("DeleteTrialComponent", TrialComponentName="part-1")
    lab.call("CreateTrialComponent", TrialComponentName="part-1")
    assert asked(lab)["MetricValues"] == []
    put(lab, (0, 0, 2.0))
    assert asked(lab)["MetricValues"] == [2.0]
