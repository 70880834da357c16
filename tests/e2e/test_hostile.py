"""A container that tries every way out: none is open. On the host, as root, the same ways are."""

import json
import re
import socket
import subprocess
import sys
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from e2e import hostile
from e2e.conftest import ESP, UDP_500, wait_for
from e2e.test_leaks import program, said
from phalanx.network.model import S3_ADDRESS, S3_PORT

SECRET = "a-secret-of-another-job"
VICTIM = """
    import json, socket
    with socket.create_server(("", 7070)):
        print("UP", json.dumps(True), flush=True)
        while True:
            __import__("time").sleep(1)
"""
GIB = 1 << 30


@pytest.fixture
def host():
    """An address of the host beyond its loopback, and a port on which it answers to anybody."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        address = probe.getsockname()[0]
    with socket.create_server(("0.0.0.0", 0)) as listener:
        yield {"host": address, "port": listener.getsockname()[1]}


@pytest.mark.shows("ResourceConfig.VolumeSizeInGB")
def test_a_hostile_container_gets_nowhere(phalanx, host):
    network = phalanx.network(UDP_500, ESP)
    phalanx.create(
        "victim",
        instances=1,
        network=network,
        Environment={"SECRET": SECRET},
        InputDataConfig=None,
        **program(VICTIM),
    )
    wait_for(lambda: said(phalanx, "victim", "UP"), 90, "the victim")
    spec = next(
        path for path in phalanx.names.run_dir.glob("i-*/spec.json") if json.loads(path.read_text())["spec"]["job"] == "victim"
    )
    victim = json.loads(spec.read_text())["spec"]["eni"]["address"]
    agent, *_ = phalanx.processes("phalanx.node")
    s3, *_ = phalanx.processes("rclone", "serve")
    targets = {
        "run_dir": str(phalanx.names.run_dir),
        "data_dir": str(phalanx.data_dir),
        "instances": str(phalanx.data_dir / "instances"),
        "images": "/var/lib/phalanx/images",
        "credentials": str(phalanx.data_dir / "credentials"),
        "evidence_key": str(phalanx.data_dir / "evidence.key"),
        "database": str(phalanx.data_dir / "phalanx.db"),
        "specs": str(spec),
        "agent_socket": str(phalanx.names.agent_socket),
        "vici": str(spec.parent / "ipsec/charon.vici"),
        "engine_socket": str(spec.parent / "ipsec/engine.sock"),
        "service_pid": phalanx.process.pid,
        "agent_pid": agent,
        "s3_pid": s3,
        "secret": SECRET[::-1],
        "memory": 8 * GIB,
        "volume": GIB,
        "victim": victim,
        "victim_port": 7070,
        "victim_neighbour": victim.rpartition(".")[0] + ".200",
        "s3_port": int(phalanx.env["AWS_ENDPOINT_URL_S3"].rpartition(":")[2]),
        "s3_address": S3_ADDRESS,
        "s3_endpoint_port": S3_PORT,
        **host,
    }
    code = Path(hostile.__file__).read_text()
    phalanx.create(
        "hostile",
        network=network,
        InputDataConfig=None,
        **{**program(code), "HyperParameters": {"targets": json.dumps(targets)}},
    )
    job = phalanx.ended("hostile")
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    (attempts,) = said(phalanx, "hostile", "ATTEMPTS")
    assert len(attempts) > 150
    assert {name: got for name, got in attempts.items() if got is not None} == {}
    # The link to the administrator's key that it left among its results brought nothing out either.
    key = Path(targets["credentials"]).read_bytes()
    uri = job["ModelArtifacts"]["S3ModelArtifacts"]
    bucket, path = re.fullmatch("s3://([^/]+)/(.*)", uri).groups()
    archive = phalanx.client("s3").get_object(Bucket=bucket, Key=path)["Body"].read()
    with tarfile.open(fileobj=BytesIO(archive)) as unpacked:
        members = [unpacked.extractfile(member) for member in unpacked if member.isfile()]
        assert not [file for file in members if key in file.read()]
    # And nothing of the other job was hurt.
    assert phalanx.describe("victim")["TrainingJobStatus"] == "InProgress"
    assert phalanx.evidence("hostile")["gaps"] == []
    phalanx.client("sagemaker").stop_training_job(TrainingJobName="victim")
    phalanx.ended("victim")


def test_the_same_attempts_succeed_where_nothing_holds_them(tmp_path, host):
    """The twin, as root in namespaces of its own."""
    secrets = tmp_path / "credentials"
    secrets.write_text("AKIAABCDEFGHIJKLMNOP")
    targets = {"run_dir": str(tmp_path), "credentials": str(secrets), **host}
    ways = [
        "list the host's run_dir",
        "read the host's credentials",
        "step over its root by /proc/1/root",
        "see the kernel's kallsyms",
        "read the kernel's log",
        *(f"make a namespace: {name}" for name in ("user", "network", "mount", "pid")),
        "clone3 into a user namespace",
        "enter mnt",
        *(f"mount {name}" for name in ("a tmpfs", "proc", "sysfs", "a directory again")),
        *(f"call {name}" for name in ("open_tree", "fsopen", "chroot", "name_to_handle_at", "ptrace of itself")),
        *(f"call {name}" for name in ("bpf", "userfaultfd", "add_key", "sethostname")),
        "open /dev/kmsg",
        *(f"write {path}" for path in ("/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv4/ip_unprivileged_port_start")),
        "start processes without bound",
        "get a real-time priority",
        "own a file as the host's root",
        *(f"open a socket: {name}" for name in ("packet", "raw ESP", "raw IP", "XFRM", "netfilter")),
        *(f"tell the kernel to {what}" for what in ("add a routing rule", "flush the security policies")),
        *(f"set the socket option {name}" for name in ("mark", "priority", "transparent")),
        "take the port of IKE",
    ]  # fmt: skip
    command = ["unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--mount-proc"]
    command += [sys.executable, hostile.__file__, json.dumps(targets), *ways]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    attempts = json.loads(done.stdout.partition("ATTEMPTS ")[2])
    assert [name for name, got in attempts.items() if got is None or "program is wrong" in got] == []
