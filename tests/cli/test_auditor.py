"""What an auditor gets: a list of jobs that spoke in the clear, and reports that verify anywhere until one byte is changed."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from phalanx.cli.evidence import show
from phalanx.cli.main import app
from phalanx.cli.report import page
from phalanx.cli.settings import Endpoints
from phalanx.jobs.evidence import summary
from phalanx.jobs.signature import Signer, verify
from phalanx.store.database import Database, sqlite_url
from phalanx.store.jobs import DeletedJob, TrainingJob

PHALANX = str(Path(sys.executable).parent / "phalanx")
PAIR = {
    "local": "algo-1",
    "remote": "algo-2",
    "established": True,
    "algorithm": "AES_GCM_16",
    "key_bits": 256,
    "esn": True,
    "ike": "AES_GCM_16-256/PRF_HMAC_SHA2_384/ECP_384",
    "ppk": True,
    "spi": "c0ffee00",
    "packets": 1234,
    "bytes": 567890,
    "packets_received": 1234,
    "bytes_received": None,
    "rekeys": 2,
    "local_certificate": "aa" * 32,
    "remote_certificate": "bb" * 32,
}
REPORT = {
    "job": "<script>alert(1)</script>",
    "arn": "arn:aws:sagemaker:us-west-2:123456789012:training-job/x",
    "requested_by": "arn:aws:iam::123456789012:user/<b>",
    "phalanx": "0.1.0",
    "measured_at": 1_790_000_000_000,
    "encryption_requested": True,
    "encrypted": True,
    "note": "All traffic between the instances was IPsec ESP, or was stopped.",
    "data_plane": "engine",
    "instances": [
        {
            "host": "algo-1",
            "plaintext_blocked_out": 3,
            "plaintext_blocked_in": 0,
            "interruptions": ["charon is dead"],
            "versions": {"linux": "6.1.0", "strongswan": "5.9.8"},
            "drops": {"integrity": 1},
            "guards": {
                "changes": [{"at": 1_790_000_000_500, "since": None, "held_by": ["kernel"], "cause": "<i>"}],
                "omitted": 0,
            },
            "wire": {
                **{"since": 1_789_999_999_000, "until": 1_790_000_000_000, "esp": 1300, "ike": 4, "neighbour": 0, "clear": 0},
                "away": [[1_789_999_999_200, 1_789_999_999_700]],
                "sightings": [],
            },
        }
    ],
    "pairs": [PAIR],
    "router_guard": {
        "ike_packets": 4,
        "ike_bytes": 400,
        "esp_packets": 1300,
        "esp_bytes": 600000,
        "dropped_packets": 0,
        "dropped_bytes": 0,
    },
    "capture": {
        **{"verdict": "encrypted while watched", "since": 1_789_999_999_000, "until": 1_790_000_000_000},
        **{"esp": 1300, "ike": 4, "neighbour": 0, "clear": 0, "milliseconds_away": 500},
    },
    "plaintext_packets_dropped": 3,
    "gaps": [],
}
SEEN = {"at": 1_789_999_999_500, "source": "10.0.0.4", "destination": "10.0.0.5", "kind": "TCP", "bytes": 60, "head": "c0ffee"}


@pytest.fixture
def service(tmp_path):
    """A data directory as a service leaves it."""
    directory = tmp_path / "data"
    directory.mkdir()
    database = Database(sqlite_url(directory / "phalanx.db"))
    database.migrate()
    signer = Signer(directory / "evidence.key")
    # As its environment had it, which is not that of those who audit.
    Endpoints("http://127.0.0.1:1", "http://127.0.0.1:2", "us-west-2", account="210987654321").save(directory)

    def signed(name, by=signer, **changes):
        return by.sign({**REPORT, "job": name, "arn": name, **changes})

    jobs = {
        "proven": (2, True, signed("proven"), 1),
        "clear": (2, False, None, 1),
        "alone": (1, False, None, 1),
        "queued": (2, False, None, None),
        "gaps": (3, True, signed("gaps", gaps=["algo-3 was gone"]), 1),
        "forged": (2, True, {**signed("forged"), "plaintext_packets_dropped": 0}, 1),
        "stranger": (2, True, signed("stranger", Signer(tmp_path / "other.key")), 1),
        "swapped": (2, True, signed("proven"), 1),
        "namesake": (2, True, signed("namesake", created=1), 1),
        "older": (2, True, signed("older", measured_at=1_780_000_000_000), 1),
        "unsaid": (2, True, signed("unsaid", encrypted=False), 1),
        "unshown": (2, True, signed("unshown", encrypted=False, ran=True, gaps=["algo-2 had no data plane"]), 1),
        "idle": (2, True, signed("idle", encrypted=False, ran=False, note="No training container was started."), 1),
        "silent": (2, True, None, 1),
        "malformed": (2, True, {"job": "x"}, 1),
    }
    with database.write() as session:
        for number, (name, (instances, encrypted, evidence, started)) in enumerate(jobs.items()):
            session.add(
                TrainingJob(
                    name=name,
                    arn=name,
                    request={},
                    status="Completed",
                    secondary_status="Completed",
                    stage="ended",
                    created=1_788_000_000_000 + number * 86_400_000,
                    modified=1_790_000_000_000,
                    training_started=started,
                    instances=instances,
                    encrypted=encrypted,
                    evidence=evidence,
                )
            )
        for name, doubt in (("gone", "encryption was not requested"), ("proven", None)):
            session.add(
                DeletedJob(
                    name=name,
                    created=1_789_000_000_000,
                    arn=name,
                    instances=2,
                    status="Completed",
                    encrypted=doubt is None,
                    doubt=doubt,
                    evidence=summary(signed("proven")) if doubt is None else None,
                    deleted=1_790_000_000_000,
                )
            )
    database.close()
    return directory


def phalanx(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_audit_lists_what_cannot_be_shown_to_have_been_encrypted(service):
    done = phalanx("audit", "--json", "--data-dir", service)
    assert done.exit_code == 1, done.output
    audited = json.loads(done.stdout)
    assert verify(audited) == Signer(service / "evidence.key").public_key
    assert audited["account"] == "210987654321"
    reasons = {row["job"]: row["doubt"] for row in audited["jobs"] if row["deleted"] is None}
    assert set(reasons) == {
        "proven",
        "clear",
        "gaps",
        "forged",
        "stranger",
        "swapped",
        "namesake",
        "older",
        "unsaid",
        "silent",
        "malformed",
        "idle",
        "unshown",
    }
    assert reasons["proven"] is None
    assert reasons["idle"] is None
    told = next(row["evidence"] for row in audited["jobs"] if row["job"] == "proven" and row["deleted"] is None)
    assert (told["requested_by"], told["bytes"], told["spis"]) == (REPORT["requested_by"], 567890, ["c0ffee00"])
    assert told["capture"]["verdict"] == "encrypted while watched"
    assert reasons["clear"] == "encryption was not requested"
    assert "algo-3 was gone" in reasons["gaps"]
    assert "changed after it was signed" in reasons["forged"]
    assert "signed by" in reasons["stranger"]
    assert "another job, proven" in reasons["swapped"]
    assert "an earlier job of the name namesake" in reasons["namesake"]
    assert "an earlier job of the name older" in reasons["older"]
    assert "does not say" in reasons["unsaid"]
    assert "no well-formed signature" in reasons["malformed"]
    # What the service has not signed gets no signature of the audit's either.
    told = {row["job"] for row in audited["jobs"] if row["evidence"] is not None and row["deleted"] is None}
    assert told == {"proven", "gaps", "unsaid", "idle", "unshown"}
    deleted = [(row["job"], row["doubt"], row["deleted"]) for row in audited["jobs"] if row["deleted"] is not None]
    when = "2026-09-21T14:13:20+00:00"
    assert deleted == [("gone", "encryption was not requested", when), ("proven", None, when)]
    shown = phalanx("audit", "--data-dir", service)
    assert "12 of 15 jobs" in shown.stdout
    assert "deleted" in shown.stdout
    later = phalanx("audit", "--since", "2027-01-01", "--data-dir", service)
    assert (later.exit_code, later.stdout.split()[0]) == (0, "0")


@pytest.mark.parametrize("stopped", [True, False])
def test_a_snapshot_that_is_mounted_read_only_is_read(service, tmp_path, stopped):
    """As a service left it, or with what it was writing when the snapshot was made."""
    snapshot = tmp_path / "50% of #1"
    if stopped:
        shutil.copytree(service, snapshot)
    else:
        database = Database(sqlite_url(service / "phalanx.db"))
        with database.write() as session:
            session.get_one(TrainingJob, "clear").name = "renamed"
        shutil.copytree(service, snapshot)
        database.close()
    assert (snapshot / "phalanx.db-wal").exists() != stopped
    subprocess.run(["mount", "--bind", snapshot, snapshot], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", snapshot], check=True)
        audited = CliRunner().invoke(app, ["audit", "--json", "--data-dir", str(snapshot)])
        names = {job["job"] for job in json.loads(audited.stdout)["jobs"]}
        assert names & {"proven", "clear", "renamed"} == {"proven", "clear" if stopped else "renamed"}
        shown = CliRunner().invoke(app, ["evidence", "proven", "--json", "--data-dir", str(snapshot)])
        assert json.loads(shown.stdout)["job"] == "proven"
        saved = CliRunner().invoke(app, ["backup", str(tmp_path / "backup"), "--data-dir", str(snapshot)])
        assert saved.exit_code == 0, saved.output
    finally:
        subprocess.run(["umount", snapshot], check=True)


def test_a_database_of_an_earlier_version_is_not_audited(service):
    database = Database(sqlite_url(service / "phalanx.db"))
    with database.write() as session:
        session.connection().exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")
    database.close()
    done = phalanx("audit", "--data-dir", service)
    assert (done.exit_code, "Start the service first" in done.stderr) == (1, True)


@pytest.mark.parametrize("arguments", [("audit", "--json"), ("evidence", "proven"), ("evidence", "--public-key")])
@pytest.mark.parametrize("content", [None, b""])
def test_nothing_is_signed_or_believed_with_a_new_key(service, arguments, content):
    key = service / "evidence.key"
    key.unlink()
    if content is not None:
        key.write_bytes(content)
    done = phalanx(*arguments, "--data-dir", service)
    assert (done.exit_code, done.stdout) == (1, "")
    assert str(key) in done.stderr
    assert key.exists() == (content is not None)


@pytest.mark.parametrize(
    ("job", "word"), [("forged", "changed"), ("stranger", "signed by"), ("swapped", "another job"), ("older", "an earlier job")]
)
def test_a_report_that_the_service_has_not_signed_for_the_job_is_not_shown(service, job, word):
    for more in ((), ("--json",)):
        done = phalanx("evidence", job, *more, "--data-dir", service)
        assert (done.exit_code, done.stdout) == (1, "")
        assert word in done.stderr


def test_a_check_says_whose_report_it_is_and_what_it_tells(service, tmp_path):
    file = tmp_path / "report.json"
    key = phalanx("evidence", "--public-key", "--data-dir", service).stdout.strip()
    for arguments, words in (
        (
            ("evidence", "proven", "--json"),
            "the report of 'proven', 2026-09-21T14:13:20.000+00:00: encrypted: 'encrypted while",
        ),
        (("evidence", "gaps", "--json"), "the report of 'gaps', 2026-09-21T14:13:20.000+00:00: encrypted, but 'not all was"),
        (("evidence", "unsaid", "--json"), "2026-09-21T14:13:20.000+00:00: not encrypted"),
        (("evidence", "idle", "--json"), "2026-09-21T14:13:20.000+00:00: not encrypted: 'No training container was started.'"),
        (("evidence", "unshown", "--json"), ": not shown to be encrypted: 'not all was measured: algo-2 had no data plane'"),
        (("audit", "--json"), "the audit of account '210987654321', "),
    ):
        file.write_text(phalanx(*arguments, "--data-dir", service).stdout)
        done = phalanx("evidence", "--verify", file)
        assert (done.exit_code, words in done.stdout, "key not checked" in done.stdout) == (0, True, True), done.output
        assert "key not checked" not in phalanx("evidence", "--verify", file, "--key", key).stdout
    assert phalanx("evidence", "proven", "--verify", file).exit_code == 1
    file.write_text(phalanx("evidence", "proven", "--json", "--data-dir", service).stdout)
    assert phalanx("evidence", "proven", "--verify", file).exit_code == 0
    other = phalanx("evidence", "gaps", "--verify", file)
    assert (other.exit_code, "no report of gaps" in other.stderr) == (1, True)


def test_a_file_that_readers_may_read_differently_is_no_report(service, tmp_path):
    file = tmp_path / "report.json"
    text = phalanx("evidence", "proven", "--json", "--data-dir", service).stdout
    for content, word in (
        (
            text.replace('"plaintext_packets_dropped"', '"plaintext_packets_dropped": 7, "plaintext_packets_dropped"', 1),
            "twice",
        ),
        (text.replace('"spi"', '"spi": "0", "spi"', 1), "twice"),
        ("[" * 100_000 + "]" * 100_000, "nested"),
        (
            json.dumps(Signer(tmp_path / "other.key").sign({"job": 1, "encrypted": False, "measured_at": "x"})),
            "read as a report",
        ),
        (json.dumps(Signer(tmp_path / "other.key").sign({})), "read as a report"),
    ):
        file.write_text(content)
        done = phalanx("evidence", "--verify", file)
        assert (done.exit_code, done.stdout) == (1, "")
        assert word in done.stderr


def test_a_report_verifies_elsewhere_with_the_public_key_alone_until_a_byte_is_changed(service, tmp_path):
    text = phalanx("evidence", "proven", "--json", "--data-dir", service).stdout
    key = phalanx("evidence", "--public-key", "--data-dir", service).stdout.strip()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    file = elsewhere / "report.json"
    # No data directory, no service, no network: a namespace with nothing but the file and the key.
    command = [
        "unshare",
        "--net",
        PHALANX,
        "evidence",
        "--verify",
        str(file),
        "--key",
        key,
        "--data-dir",
        str(elsewhere / "no"),
    ]

    def verifies(content):
        file.write_text(content)
        return (
            subprocess.run(command, capture_output=True, check=False, cwd=elsewhere, env={"PATH": os.defpath}).returncode == 0
        )

    assert verifies(text)
    assert not verifies(text.replace('"spi": "c0ffee00"', '"spi": "c0ffee01"'))
    assert not verifies(json.dumps(Signer(tmp_path / "other").sign(REPORT)))


def test_the_page_for_auditors_says_it_all_and_runs_nothing(service, tmp_path):
    file = tmp_path / "report.html"
    done = phalanx("evidence", "proven", "--html", file, "--data-dir", service)
    assert done.exit_code == 0, done.output
    page = file.read_text()
    for words in (
        "§164.312(e)",
        "4.2.1",
        "AES_GCM_16, 256 bits, ESN",
        "c0ffee00",
        "567,890",
        "charon is dead",
        "dropped: integrity",
        "Verdict: encrypted while watched",
        "not watched all the time",
        "2026-09-21T14:13:19.200+00:00",
        "&lt;i&gt;",
    ):
        assert words in page
    assert "<script" not in page
    assert "phalanx evidence --verify report.json --key" in page
    missing = phalanx("evidence", "proven", "--html", tmp_path / "no" / "report.html", "--data-dir", service)
    assert missing.exit_code == 1
    assert "Cannot write" in missing.output


def test_earlier_attempts_are_told_of_and_decide_the_verdict(tmp_path, capsys):
    lost = {**REPORT, "gaps": ["algo-2 was gone before it was measured."]}
    good, bad = (Signer(tmp_path / "key").sign({**REPORT, "earlier_attempts": [each]}) for each in (REPORT, lost))
    assert [('class="verdict good"' in page(each), "That cannot be shown" in page(each)) for each in (good, bad)] == [
        (True, False),
        (False, True),
    ]
    show(bad)
    told = " ".join(capsys.readouterr().out.split())
    assert "attempt 1, before: encrypted while watched; 567,890 bytes, plaintext packets stopped: 3" in told
    assert "not measured of attempt 1: algo-2 was gone before it was measured." in told


def test_a_page_of_a_mixed_fleet_tells_which_instance_had_which_data_plane(tmp_path):
    instances = [
        {**REPORT["instances"][0], "host": host, "data_plane": plane} for host, plane in (("a", "engine"), ("b", "kernel"))
    ]
    mixed = {**REPORT, "data_plane": "engine, kernel", "instances": instances}
    shown = [page(Signer(tmp_path / "key").sign(each)) for each in (REPORT, mixed)]
    words = ("<td>Phalanx&#x27;s ESP engine</td>", "<td>Phalanx&#x27;s ESP engine (a); the Linux kernel&#x27;s ESP (b)</td>")
    assert [[each in text for each in words] for text in shown] == [[True, False], [False, True]]


def test_a_page_of_what_was_not_measured_claims_no_encryption(tmp_path):
    signer = Signer(tmp_path / "key")
    unmeasured = {**REPORT, "ran": True, "encrypted": False, "note": "Not shown.", "gaps": ["algo-1 had no data plane"]}
    idle = {**REPORT, "ran": False, "encrypted": False, "note": "No training container was started.", "pairs": []}
    for report, kind, words in ((unmeasured, "bad", "Not shown. Not everything"), (idle, "good", "No training container")):
        shown = page(signer.sign(report))
        assert f'class="verdict {kind}">{words}' in shown
        assert "AES-256-GCM" not in shown
        assert "Controls" not in shown


def test_pages_of_what_was_in_the_clear_and_of_earlier_reports(tmp_path):
    (instance,) = REPORT["instances"]
    wire = {**instance["wire"], "clear": 1, "sightings": [SEEN]}
    capture = {**REPORT["capture"], "verdict": "in the clear", "clear": 1}
    signer = Signer(tmp_path / "key")
    shown = page(signer.sign({**REPORT, "instances": [{**instance, "wire": wire}], "capture": capture}))
    assert 'class="verdict bad"' in shown
    assert "10.0.0.4 → 10.0.0.5" in shown
    # Version 1 had neither.
    earlier = {name: value for name, value in instance.items() if name not in ("wire", "guards")}
    report = {name: value for name, value in REPORT.items() if name != "capture"}
    shown = page(signer.sign({**report, "instances": [earlier]}))
    assert 'class="verdict good"' in shown
    assert "captured" not in shown
