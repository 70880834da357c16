"""DescribeTrainingJobEncryption: through the wire, by the model that is our own."""

import json

import boto3
import pytest
from botocore.exceptions import ClientError

from phalanx.services.phalanx.service import service
from phalanx.store.base import now_ms
from phalanx.store.jobs import TrainingJob
from phalanx.wire.api import apis
from phalanx.wire.loader import OWN_MODELS

REPORT = {"job": "ended", "note": "Größe", "pairs": [], "bytes": 2**60}
WORK = {"milliseconds_in": 500, "milliseconds_out": 250, "wakes": 5000}
WORKED = {"pairs": [{"bytes": 2**33}], "instances": [{"work": WORK}, {"work": {**WORK, "wakes": 0}}]}


class Control:
    """A jobs room in which one job can be measured."""

    def measured(self, job):
        return {"job": job} if job == "running" else None


@pytest.fixture
def services(live_database):
    with live_database.write() as session:
        for name, status, evidence in (
            ("ended", "Completed", REPORT),
            ("worked", "Completed", WORKED),
            ("running", "InProgress", None),
            ("new", "InProgress", None),
        ):
            session.add(
                TrainingJob(
                    name=name,
                    arn=f"arn:{name}",
                    request={},
                    status=status,
                    secondary_status=status,
                    created=now_ms(),
                    modified=now_ms(),
                    instances=2,
                    encrypted=True,
                    evidence=evidence,
                )
            )
    return [service(live_database, Control())]


@pytest.fixture
def phalanx(settings, monkeypatch):
    """What people do with AWS_DATA_PATH."""
    monkeypatch.setenv("AWS_DATA_PATH", OWN_MODELS)
    client = boto3.session.Session().client("phalanx", **settings)
    yield client
    client.close()


@pytest.mark.shows("DescribeTrainingJobEncryption")
def test_the_stored_report_is_given_unchanged(phalanx):
    answer = phalanx.describe_training_job_encryption(TrainingJobName="ended")
    assert (answer["Signed"], json.loads(answer["Report"])) == (True, REPORT)
    assert "EstimatedCost" not in answer


def test_what_encryption_cost_is_estimated_from_the_work_of_the_data_planes(phalanx):
    answer = phalanx.describe_training_job_encryption(TrainingJobName="worked")
    assert answer["EstimatedCost"] == {"LikelySeconds": 1.0, "MostSeconds": 1.75, "BytesBetweenInstances": 2**33}


def test_a_running_job_is_measured_now(phalanx):
    answer = phalanx.describe_training_job_encryption(TrainingJobName="running")
    assert (answer["Signed"], json.loads(answer["Report"])) == (False, {"job": "running"})


def test_a_job_without_instances_has_no_report_yet(phalanx):
    answer = phalanx.describe_training_job_encryption(TrainingJobName="new")
    assert (answer["Signed"], answer.get("Report")) == (False, None)


def test_an_unknown_job_is_not_found(phalanx):
    with pytest.raises(ClientError) as refused:
        phalanx.describe_training_job_encryption(TrainingJobName="nobody")
    assert refused.value.response["Error"]["Code"] == "ResourceNotFound"


def test_the_service_is_the_operations_of_its_model():
    assert [list(api.operations) for api in apis(service(None, None))] == [["DescribeTrainingJobEncryption"]]
