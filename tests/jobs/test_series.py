"""What becomes of a job's metrics and of what its instances use, in the store."""

import pytest
from sqlalchemy import select
from stub_fleet import Script, StubFleet
from test_runner import IMAGE, create, database, run, signer  # noqa: F401

from phalanx.data.logs import LogLine
from phalanx.jobs import journal, series
from phalanx.store.jobs import TrainingJob
from phalanx.store.metrics import MetricPoint, MetricSeries
from phalanx.store.tuning import ObjectiveValue

SPECIFICATION = {"TrainingImage": IMAGE, "TrainingInputMode": "File"}
LOGS = [LogLine(1000 * second, f"[{second}]\ttrain-auc:0.{second}") for second in (1, 2, 5)]


def points(database, name, host=""):  # noqa: F811
    """(beginning, count, total, least, most) of each point."""
    with database.read() as session:
        query = select(MetricPoint).join(MetricSeries, MetricSeries.id == MetricPoint.series).order_by(MetricPoint.at)
        found = session.scalars(query.where(MetricSeries.name == name, MetricSeries.host == host)).all()
        return [(point.at, point.count, point.total, point.least, point.most) for point in found]


def test_values_of_one_second_or_minute_are_one_set(database):  # noqa: F811
    create(database)
    with database.write() as session:
        series.record(session, "job", "", [("a", 1.0, 61_000), ("a", 4.0, 62_000), ("a", 2.0, 120_000)], series.MINUTE)
        series.record(session, "job", "", [("a", -3.0, 119_999)], series.MINUTE)
    assert points(database, "a") == [(60_000, 3, 2.0, -3.0, 4.0), (120_000, 1, 2.0, 2.0, 2.0)]


@pytest.mark.shows("AlgorithmSpecification.EnableSageMakerMetricsTimeSeries")
@pytest.mark.parametrize(
    ("asked", "expected"),
    [({}, [1000, 2000, 5000]), ({"EnableSageMakerMetricsTimeSeries": False}, [0])],
)
def test_metrics_of_a_job_are_kept_by_the_second_or_the_minute(database, signer, asked, expected):  # noqa: F811
    create(database, instances=1, AlgorithmSpecification={**SPECIFICATION, **asked})
    run(database, StubFleet(Script(logs=LOGS)), signer)
    assert [at for at, *_ in points(database, "train:auc")] == expected


@pytest.mark.shows("AlgorithmSpecification.MetricDefinitions")
def test_own_metrics_of_an_own_image(database, signer):  # noqa: F811
    own = {**SPECIFICATION, "TrainingImage": "own:1", "MetricDefinitions": [{"Name": "round", "Regex": r"\[(\d+)\]"}]}
    create(database, instances=1, AlgorithmSpecification=own)
    job = run(database, StubFleet(Script(logs=LOGS)), signer)
    assert points(database, "round") == [(0, 3, 8.0, 1.0, 5.0)]
    assert job.metrics["round"] == [5.0, 5000]


def test_values_that_cloudwatch_does_not_take_are_none(database, signer):  # noqa: F811
    """A tuning job's rules cannot take the mean of the greatest floating-point numbers."""
    own = {**SPECIFICATION, "MetricDefinitions": [{"Name": "loss", "Regex": "loss=(.*)"}]}
    create(database, instances=1, AlgorithmSpecification=own, HyperParameters={"_tuning_objective_metric": "loss"})
    with database.write() as session:
        session.get_one(
            TrainingJob, "job"
        ).tuning_job_arn = "arn:aws:sagemaker:us-west-2:123456789012:hyper-parameter-tuning-job/t"
    told = [LogLine(1000, f"loss={value}") for value in (-1.5, 2.0**360, 1e109, -1.2e308)]
    job = run(database, StubFleet(Script(logs=told)), signer)
    assert job.metrics == {"loss": [2.0**360, 1000]}
    assert points(database, "loss") == [(1000, 2, 2.0**360, -1.5, 2.0**360)]
    with database.read() as session:
        emitted = session.scalars(select(ObjectiveValue).order_by(ObjectiveValue.number)).all()
        assert [(each.number, each.value) for each in emitted] == [(0, -1.5), (1, 2.0**360)]


def test_the_final_value_of_a_metric_is_the_last_that_any_host_said(database, signer):  # noqa: F811
    class Hosts(StubFleet):
        """Instances whose logs differ: the last host's is read last, and ends before the others'."""

        def logs(self, instance_id, offset, final):
            at, value = {"algo-1": (3000, 0.9), "algo-2": (1000, 0.5)}[self.specs[instance_id].host]
            lines = [LogLine(at, f"[7]\ttrain-auc:{value}"), LogLine(at, f"[8]\ttrain-auc:{value + 0.01:.2f}")]
            return lines[offset:], len(lines)

    create(database)
    assert run(database, Hosts(Script()), signer).metrics["train:auc"] == [0.91, 3000]


def test_what_instances_use_is_sampled(database, signer, monkeypatch):  # noqa: F811
    monkeypatch.setattr(journal, "SAMPLE_SECONDS", 0.0)
    monkeypatch.setattr(journal, "now_ms", lambda: 60_000)
    create(database, instances=2)
    run(database, StubFleet(Script()), signer)
    for host in ("algo-1", "algo-2"):
        # The stub's instances use one and a half CPUs all the time; the first look begins it.
        (cpu,), (memory,), (disk,) = (points(database, f"{name}Utilization", host) for name in ("CPU", "Memory", "Disk"))
        assert cpu[3:] == (150.0, 150.0)
        assert (memory[3:], disk[3:]) == ((25.0, 25.0), (40.0, 40.0))
        assert cpu[1] == memory[1] - 1
