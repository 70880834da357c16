"""A host is lost: a service restored from a backup knows its jobs and goes on with them."""

import shutil
import socket
import time

from e2e.conftest import Phalanx


def test_a_restored_service_knows_its_jobs_and_begins_again_what_was_under_way(own_phalanx, tmp_path):
    own_phalanx.create("done")
    assert own_phalanx.ended("done")["TrainingJobStatus"] == "Completed"
    own_phalanx.create_steady("going", RetryStrategy={"MaximumRetryAttempts": 1})
    own_phalanx.training("going")
    file, elsewhere = tmp_path / "backup", tmp_path / "elsewhere"
    taken = own_phalanx.run("backup", str(file))
    assert taken.returncode == 0, taken.stderr
    before = own_phalanx.env
    assert own_phalanx.stop() == 0

    with socket.create_server(("127.0.0.1", 0)) as probe:
        restored = Phalanx(elsewhere, probe.getsockname()[1])
    made = restored.run("restore", str(file))
    assert made.returncode == 0, made.stderr
    shutil.copytree(own_phalanx.data_dir / "s3", elsewhere / "s3")
    restored.start()
    try:
        assert restored.env["AWS_SECRET_ACCESS_KEY"] == before["AWS_SECRET_ACCESS_KEY"]
        assert restored.describe("done")["TrainingJobStatus"] == "Completed"
        assert all(pair["packets"] for pair in restored.evidence("done")["pairs"])
        restored.training("going", since=time.time())
        going = restored.finished("going")
        assert going["TrainingJobStatus"] == "Completed", going.get("FailureReason")
        checked = restored.run("trail")
        assert checked.returncode == 0, checked.stderr
    finally:
        restored.stop()
    assert restored.leftovers() == []
