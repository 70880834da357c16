"""What an auditor gets: a list of jobs that spoke in the clear, and reports that verify anywhere until one byte is changed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from phalanx.cli.evidence import show
from phalanx.cli.main import app
from phalanx.cli.report import page
from phalanx.jobs.evidence import Signer, verify
from phalanx.store.database import Database, sqlite_url
from phalanx.store.jobs import TrainingJob

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
    good = signer.sign(REPORT)
    jobs = {
        "proven": (2, True, good, 1),
        "clear": (2, False, None, 1),
        "alone": (1, False, None, 1),
        "queued": (2, False, None, None),
        "gaps": (3, True, signer.sign({**REPORT, "gaps": ["algo-3 was gone"]}), 1),
        "forged": (2, True, {**good, "plaintext_packets_dropped": 0}, 1),
        "silent": (2, True, None, 1),
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
                    created=1_790_000_000_000 + number * 86_400_000,
                    modified=1_790_000_000_000,
                    training_started=started,
                    instances=instances,
                    encrypted=encrypted,
                    evidence=evidence,
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
    reasons = {row["job"]: row["doubt"] for row in audited["jobs"]}
    assert set(reasons) == {"proven", "clear", "gaps", "forged", "silent"}
    assert reasons["proven"] is None
    told = next(row["evidence"] for row in audited["jobs"] if row["job"] == "proven")
    assert (told["requested_by"], told["bytes"], told["spis"]) == (REPORT["requested_by"], 567890, ["c0ffee00"])
    assert told["capture"]["verdict"] == "encrypted while watched"
    assert reasons["clear"] == "encryption was not requested"
    assert "algo-3 was gone" in reasons["gaps"]
    assert "changed after it was signed" in reasons["forged"]
    shown = phalanx("audit", "--data-dir", service)
    assert "4 of 5 jobs" in shown.stdout
    later = phalanx("audit", "--since", "2027-01-01", "--data-dir", service)
    assert (later.exit_code, later.stdout.split()[0]) == (0, "0")


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
