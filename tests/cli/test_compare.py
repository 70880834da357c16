"""`phalanx compare`: the twins' requests, and what is said of their times. tests/e2e/test_first_job.py runs the command."""

import pytest
import typer

from phalanx.cli.compare import again, compare, verdict
from phalanx.jobs.cost import Cost
from phalanx.store.database import Database, sqlite_url
from phalanx.store.jobs import TrainingJob

COST = Cost(0.0, 1.0, 2.0, 400_000_000)


def test_a_twin_begins_from_nothing():
    request = {
        "TrainingJobName": "job",
        "EnableInterContainerTrafficEncryption": True,
        "HyperParameters": {"num_round": "3"},
        "CheckpointConfig": {"S3Uri": "s3://bucket/checkpoints/", "LocalPath": "/opt/ml/checkpoints"},
        "ResourceConfig": {"InstanceCount": 2, "KeepAlivePeriodInSeconds": 60},
        "ExperimentConfig": {"ExperimentName": "e"},
        "Tags": [{"Key": "k", "Value": "v"}],
        "VpcConfig": {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]},
    }
    assert again(request, "job-clear-1", False) == {
        "TrainingJobName": "job-clear-1",
        "EnableInterContainerTrafficEncryption": False,
        "HyperParameters": {"num_round": "3"},
        "CheckpointConfig": {"S3Uri": "s3://bucket/checkpoints/job-clear-1", "LocalPath": "/opt/ml/checkpoints"},
        "ResourceConfig": {"InstanceCount": 2},
    }
    assert request["ResourceConfig"]["KeepAlivePeriodInSeconds"] == 60


@pytest.mark.parametrize(
    ("encrypted", "clear", "cost", "last"),
    [
        ([11.0], [10.0], COST, "The estimate holds."),
        ([13.0, 14.0], [10.0, 10.0], COST, "More than the estimate allows"),
        ([9.0], [10.0], COST, "Less than nothing"),
        ([11.0], [10.0], None, "estimated: nothing"),
    ],
)
def test_the_verdict_says_whether_the_estimate_holds(encrypted, clear, cost, last):
    assert verdict(encrypted, clear, cost)[-1].startswith(last)


def test_several_runs_are_told_with_their_spread():
    first, second, *_ = verdict([12.0, 11.0, 14.0], [10.0, 10.0, 10.0], COST)
    assert first == "training: 12.0 s (11.0 to 14.0) encrypted, 10.0 s (10.0 to 10.0) in the clear"
    assert second == "measured: encryption made it 2.0 s longer (+20 %)"


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"encrypted": False, "instances": 2, "status": "Completed"}, "did not encrypt"),
        ({"encrypted": True, "instances": 1, "status": "Completed"}, "did not encrypt"),
        ({"encrypted": True, "instances": 2, "status": "Failed"}, "job is Failed"),
    ],
)
def test_only_a_completed_encrypted_job_is_compared(tmp_path, capsys, facts, said):
    database = Database(sqlite_url(tmp_path / "phalanx.db"))
    database.migrate()
    with database.write() as session:
        session.add(
            TrainingJob(name="job", arn="arn", request={}, secondary_status="x", stage="ended", created=0, modified=0, **facts)
        )
    database.close()
    with pytest.raises(typer.Exit):
        compare("job", data_dir=tmp_path)
    assert said in capsys.readouterr().err
