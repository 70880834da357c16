"""The audit trail shows what was done to it."""

import json
import os
import time

import pytest

from phalanx.identity import trail
from phalanx.identity.trail import Trail, verify
from phalanx.wire.errors import AwsError
from phalanx.wire.loader import service_model
from phalanx.wire.service import Caller, Client, Event
from phalanx.wire.validator import Validators, validate

ACCOUNT = "123456789012"
CALLER = Caller(ACCOUNT, "us-west-2", "AKIAEXAMPLE", f"arn:aws:iam::{ACCOUNT}:user/ann", "AIDA", "r-1", Client("192.0.2.1"))


def event(number=0, **changes):
    given = {
        "request_id": f"r-{number}",
        "client": CALLER.client,
        "caller": CALLER,
        "access_key": CALLER.access_key,
        "region": "us-west-2",
        "service": "sagemaker",
        "operation": "CreateTrainingJob",
        "members": {"TrainingJobName": f"job-{number}", "Environment": {"TOKEN": "hunter2"}},
        "response": {"TrainingJobArn": "arn"},
    }
    return Event(**{**given, **changes})


@pytest.fixture
def written(tmp_path):
    """A trail of ten records in several files."""
    made = Trail(tmp_path, ACCOUNT)
    for number in range(10):
        made.record(event(number), None)
    made.close()
    return tmp_path


def lines(directory):
    return (directory / "000000000000.jsonl").read_bytes().splitlines(keepends=True)


def test_records_are_cloudtrails(written):
    record = json.loads(lines(written)[3])
    assert record["eventSource"] == "sagemaker.amazonaws.com"
    assert (record["eventName"], record["awsRegion"], record["readOnly"]) == ("CreateTrainingJob", "us-west-2", False)
    assert record["userIdentity"]["arn"] == CALLER.arn
    assert record["sourceIPAddress"] == "192.0.2.1"
    assert record["requestParameters"]["trainingJobName"] == "job-3"
    assert record["responseElements"] == {"trainingJobArn": "arn"}
    assert b"hunter2" not in b"".join(lines(written))


def test_secrets_are_not_on_record(tmp_path):
    made = Trail(tmp_path, ACCOUNT)
    key = {"AccessKey": {"AccessKeyId": "AKIA1", "SecretAccessKey": "hunter2"}}
    made.record(event(service="iam", operation="CreateAccessKey", response=key), None)
    session = {"Credentials": {"SessionToken": "hunter2", "SecretAccessKey": "hunter2"}}
    made.record(event(service="sts", operation="AssumeRole", response=session), None)
    made.close()
    assert b"hunter2" not in b"".join(lines(tmp_path))
    assert b"AKIA1" in lines(tmp_path)[0]


def test_what_an_answer_leaves_out_is_not_on_record(tmp_path):
    rules = {"SecurityGroupRules": [{"SecurityGroupRuleId": "sgr-1", "Description": None}]}
    made = Trail(tmp_path, ACCOUNT)
    made.record(event(service="ec2", operation="AuthorizeSecurityGroupIngress", response=rules), None)
    made.close()
    record = json.loads(lines(tmp_path)[0])
    assert record["responseElements"] == {"securityGroupRules": [{"securityGroupRuleId": "sgr-1"}]}


def test_a_refusal_repeats_no_secret(tmp_path):
    """As the messages come that clients get (wire.validator), of several values and of one that has a secret in it."""
    validators = Validators("ValidationException")
    operation = service_model("sagemaker").operation_model("CreateTrainingJob")
    members = {
        "TrainingJobName": "no name",
        "Environment": {"TOKEN": "hunter2" + 600 * "'"},
        "HyperParameters": {"password": 3000 * "hunter2"},
    }
    with pytest.raises(AwsError) as refused:
        validate(validators.of(operation.input_shape), validators, members)
    assert "hunter2" in refused.value.message
    nested = "1 validation error detected: Value '[{DefinitionName=a, Environment={A=hunter2}}]' at 'trainingJobDefinitions'"
    made = Trail(tmp_path, ACCOUNT)
    for message in (refused.value.message, f"{nested} failed to satisfy constraint: Member must have length"):
        made.record(event(members=None, response=None, error=("ValidationException", message)), None)
    made.close()
    first, second = (json.loads(line)["errorMessage"] for line in lines(tmp_path))
    assert "hunter2" not in first + second
    assert "Value 'no name' at 'trainingJobName' failed to satisfy constraint" in first
    assert second == f"{nested} failed to satisfy constraint: Member must have length".replace(
        "[{DefinitionName=a, Environment={A=hunter2}}]", "HIDDEN_DUE_TO_SECURITY_REASONS"
    )


def test_a_request_is_on_record_however_deeply_it_is_nested(tmp_path):
    expression = {}
    for _ in range(400):
        expression = {"SubExpressions": [expression]}
    made = Trail(tmp_path, ACCOUNT)
    made.record(event(operation="Search", members={"Resource": "TrainingJob", "SearchExpression": expression}), None)
    made.close()
    (line,) = lines(tmp_path)
    shown = json.loads(line)["requestParameters"]
    assert shown["resource"] == "TrainingJob"
    assert line.count(b"subExpressions") == 16
    assert verify(tmp_path).fault is None


def test_every_record_is_json(tmp_path):
    def refuse(name):
        raise ValueError(name)

    metrics = [{"MetricName": "loss", "Value": float(value)} for value in ("nan", "inf", "-inf", "0.5")]
    made = Trail(tmp_path, ACCOUNT)
    made.record(event(operation="BatchPutMetrics", members={"MetricData": metrics}, response={"Worst": float("nan")}), None)
    made.close()
    record = json.loads(lines(tmp_path)[0], parse_constant=refuse)
    assert [each["value"] for each in record["requestParameters"]["metricData"]] == ["NaN", "Infinity", "-Infinity", 0.5]
    assert record["responseElements"] == {"worst": "NaN"}


def test_an_untouched_trail_holds(written):
    verdict = verify(written)
    assert (verdict.records, verdict.fault) == (10, None)


@pytest.mark.parametrize(
    "change",
    [
        lambda all: [*all[:4], all[4].replace(b"job-4", b"job-5"), *all[5:]],
        lambda all: [*all[:4], *all[5:]],
        lambda all: all[1:],
        lambda all: [*all[:4], all[5], all[4], *all[6:]],
        lambda all: [*all[:4], all[4], all[4], *all[5:]],
        lambda all: [*all[:4], b"{}\n", *all[4:]],
        lambda all: [*all[:4], b"\n", *all[4:]],
        lambda all: [*all[:4], all[4][:-20] + b"\n", *all[5:]],
    ],
    ids=["changed", "removed", "the first removed", "swapped", "doubled", "inserted", "an empty line", "cut"],
)
def test_tampering_shows(written, change):
    (written / "000000000000.jsonl").write_bytes(b"".join(change(lines(written))))
    assert verify(written).fault is not None


def test_what_was_cut_off_at_the_end_shows_to_who_noted_the_last_hash(written):
    noted = verify(written)
    (written / "000000000000.jsonl").write_bytes(b"".join(lines(written)[:-1]))
    assert verify(written) != noted
    assert verify(written).fault is None
    assert "there were 10 records" in verify(written, (noted.records, noted.last)).fault


def test_a_trail_that_was_made_anew_shows_to_who_noted_a_hash(written, tmp_path_factory):
    noted = verify(written)
    made = Trail(tmp_path_factory.mktemp("anew"), ACCOUNT)
    for number in range(11):
        made.record(event(number), None)
    made.close()
    assert verify(made._directory).fault is None
    assert "made anew" in verify(made._directory, (noted.records, noted.last)).fault


def test_it_goes_on_after_a_kill_in_the_middle_of_a_line(written):
    with (written / "000000000000.jsonl").open("ab") as file:
        file.write(b'{"eventVersion":"1.11","userId')
    again = Trail(written, ACCOUNT)
    again.record(event(10), None)
    again.close()
    assert verify(written) == trail.Verdict(11, verify(written).last)


def test_it_goes_on_over_files(tmp_path, monkeypatch):
    monkeypatch.setattr(trail, "FILE_BYTES", 2000)
    for start in (0, 10):
        made = Trail(tmp_path, ACCOUNT)
        for number in range(start, start + 10):
            made.record(event(number), None)
        made.close()
    files = sorted(tmp_path.glob("*.jsonl"))
    assert len(files) > 3
    assert (verify(tmp_path).records, verify(tmp_path).fault) == (20, None)
    files[1].unlink()
    assert verify(tmp_path).fault is not None


def moved(directory, monkeypatch):
    """A trail in several files, and what a check told of it whenever a record had come."""
    monkeypatch.setattr(trail, "FILE_BYTES", 2000)
    made, told = Trail(directory, ACCOUNT), []
    for number in range(10):
        told.append(verify(directory))
        made.record(event(number), None)
    made.close()
    return [*told, verify(directory)], sorted(directory.glob("*.jsonl"))


def test_a_trail_whose_older_files_were_moved_away_says_where_it_begins(tmp_path, monkeypatch):
    told, files = moved(tmp_path, monkeypatch)
    begins = int(files[1].stem)
    files[0].unlink()
    assert verify(tmp_path) == trail.Verdict(10, told[-1].last, None, begins)
    for noted in told:
        verdict = verify(tmp_path, (noted.records, noted.last))
        assert verdict.first == begins
        if noted.records < begins:
            assert "bring the older files back" in verdict.fault
        else:
            # That of the record just before the first is in the first one.
            assert verdict.fault is None
            assert "made anew" in verify(tmp_path, (noted.records, "0" * 64)).fault


@pytest.mark.parametrize("given", [0, 1, 5, 10, 11])
def test_a_made_up_end_does_not_pass_for_the_rest_of_a_trail(written, tmp_path_factory, given):
    noted = verify(written)
    made_up = tmp_path_factory.mktemp("made up")
    line = json.loads(lines(written)[0]) | {"sequence": given, "previous": "ab" * 32}
    (made_up / f"{given:012}.jsonl").write_text(json.dumps(line) + "\n")
    verdict = verify(made_up, (noted.records, noted.last))
    assert verdict.fault is not None


@pytest.mark.parametrize("sequence", ["0", "1", None, 1.0, True, [], {}])
def test_a_first_record_whose_sequence_is_no_number_is_none(tmp_path, sequence):
    (tmp_path / "000000000001.jsonl").write_text(json.dumps({"sequence": sequence, "previous": trail.START}) + "\n")
    assert "is no record" in verify(tmp_path).fault


def test_a_clock_that_is_set_back_keeps_no_record_from_the_disk(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(trail, "SYNC_SECONDS", 0)
    monkeypatch.setattr(trail.os, "fdatasync", lambda file: synced.append(file))
    made = Trail(tmp_path, ACCOUNT)
    made.record(event(), None)
    an_hour_ago = time.time() - 3600
    monkeypatch.setattr(trail.time, "time", lambda: an_hour_ago)
    made.record(event(), None)
    assert len(synced) == 2
    made.close()


def test_what_cannot_be_written_waits_and_nothing_more_is_let_in(tmp_path, monkeypatch):
    made = Trail(tmp_path, ACCOUNT)
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:10]))
    made.record(event(0), None)
    assert not made.ready()
    monkeypatch.setattr(os, "write", write)
    assert made.ready()
    made.record(event(1), None)
    made.close()
    assert (verify(tmp_path).records, verify(tmp_path).fault) == (2, None)
