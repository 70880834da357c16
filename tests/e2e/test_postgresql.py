"""A service whose jobs are kept in PostgreSQL, and what becomes of them when that goes away."""

import time

import pytest
from botocore.exceptions import ClientError

from e2e.conftest import running
from e2e.crash import crash
from postgres import Postgres


@pytest.fixture
def server():
    server = Postgres()
    server.start()
    yield server
    server.close()


@pytest.fixture
def service(tmp_path, server):
    with running(tmp_path, "--database", server.fresh("phalanx")) as service:
        yield service


def test_a_job_outlives_its_database_and_requests_meanwhile_are_to_be_repeated(service, server):
    service.create_steady("job")
    service.training("job")
    server.stop()
    asked = [
        lambda: service.fresh("sagemaker").describe_training_job(TrainingJobName="job"),
        lambda: service.fresh("ec2").describe_vpcs(),
        lambda: service.fresh("iam").list_users(),
        lambda: service.fresh("cloudwatch").list_metrics(),
    ]
    for ask in asked:
        with pytest.raises(ClientError) as told:
            ask()
        assert told.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
        assert told.value.response["Error"]["Code"] == "ServiceUnavailable"
    shown = service.run("evidence", "job")
    assert shown.returncode == 1
    assert "database cannot be reached" in shown.stderr
    server.start()
    service.training("job", since=time.time())
    job = service.finished("job")
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert all(pair["established"] for pair in service.evidence("job")["pairs"])
    assert not (service.data_dir / "phalanx.db").exists()


def test_random_kills_lose_no_job_in_postgresql_either(service, server):
    found = crash(service, seconds=30, seed=10, kills=12, others={"PostgreSQL": server.sessions})
    assert found.wrong == [], str(found)
    assert found.jobs
