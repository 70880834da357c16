"""One job on several hosts: namespaces with own mounts on a wire, with real Ray, real tunnels and somebody who listens."""

import contextlib
import io
import json
import re
import signal
import socket
import subprocess
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.vxlan import VXLAN
from scapy.utils import PcapReader

from e2e.conftest import ESP, UDP_500, Phalanx, channel, wait_for
from e2e.conftest import TCP as ALL_TCP
from e2e.test_deep_learning import IMAGE as PYTORCH
from fleet.lan import Lan
from phalanx.network import namespace
from phalanx.network.tunnel import PORT
from phalanx.runtime.images import Images

HOSTS = 3
STEPS, RATE = 20, 0.1
SCRIPT = f"""
import json, os, numpy, torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
hosts, host = json.loads(os.environ["SM_HOSTS"]), os.environ["SM_CURRENT_HOST"]
dist.init_process_group("gloo", rank=hosts.index(host), world_size=len(hosts))
rows = torch.from_numpy(numpy.loadtxt(os.environ["SM_CHANNEL_TRAIN"] + "/rows.csv", delimiter=","))
rows = rows[dist.get_rank() :: len(hosts)]
model = torch.nn.Linear(rows.shape[1] - 1, 1, dtype=torch.float64)
torch.nn.init.zeros_(model.weight), torch.nn.init.zeros_(model.bias)
model = DistributedDataParallel(model)
optimiser = torch.optim.SGD(model.parameters(), lr={RATE})
for _ in range({STEPS}):
    optimiser.zero_grad()
    (model(rows[:, 1:]).squeeze(1) - rows[:, 0]).square().mean().backward()
    optimiser.step()
found = [*model.module.weight[0].tolist(), model.module.bias.item()]
with open(os.environ["SM_MODEL_DIR"] + f"/{{host}}.json", "w") as file:
    json.dump(found, file)
dist.destroy_process_group()
"""
"""Linear regression, to which each instance brings its third of the rows."""


class FleetService(Phalanx):
    """A control plane on a wire."""

    def _answers(self) -> bool:
        assert self.process.poll() is None, (self.data_dir.parent / "serve.log").read_text()
        with contextlib.suppress(OSError), socket.create_connection((self.options[1], self.port), 1):
            return True
        return False

    def joined(self, lan: Lan, images: Path | None = None):
        """A new host, once it is part of the fleet; with a store of images of its own, where it is said."""
        machine = lan.machine()
        machine.images = images
        shown = self.run("host", "invite", machine.address, str(machine.invitation))
        assert shown.returncode == 0, shown.stderr
        machine.join()
        wait_for(lambda: self.joins(machine), 180, "the host to join")
        return machine

    def joins(self, machine) -> int:
        """How often a host has joined."""
        log = (self.data_dir.parent / "serve.log").read_text()
        return len(re.findall(rf'"{machine.address}".*"host joined"', log))


@pytest.fixture(scope="module")
def lan(tmp_path_factory):
    with Lan(tmp_path_factory.mktemp("lan")) as lan:
        yield lan


@pytest.fixture(scope="module")
def phalanx(lan):
    with socket.create_server((lan.address(1), 0)) as probe:
        port = probe.getsockname()[1]
    options = ("--host", lan.address(1), "--fleet", "ray", "--spread")
    service = FleetService(lan.directory / "control" / "data", port, options)
    service.data_dir.mkdir(parents=True)
    try:
        service.start()
        service.stock()
        for _ in range(HOSTS):
            service.joined(lan)
        yield service
    finally:
        try:
            for machine in lan.machines:
                machine.leave()
        finally:
            service.stop()
        assert service.leftovers() == []
        for machine in lan.machines:
            assert machine.processes() == []
            assert machine.cgroups() == []


@contextlib.contextmanager
def listening(lan: Lan, kinds: set):
    """Collect what kinds of packets pass between any two hosts meanwhile."""
    file = lan.directory / f"{time.monotonic_ns()}.pcap"
    enter = ["nsenter", f"--net={namespace.path(lan.wire)}"]
    command = [*enter, "tcpdump", "-i", "switch", "-U", "-s", "160", "-w", str(file)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as listener:
        assert "listening" in listener.stderr.readline()
        yield
        time.sleep(0.5)
        listener.terminate()
    with PcapReader(str(file)) as packets:
        for packet in packets:
            if IP in packet and lan.address(1) not in (packet[IP].src, packet[IP].dst):
                kinds.add(_kind(packet))


def _kind(packet) -> str:
    if UDP in packet and packet[UDP].dport == PORT:
        inner = VXLAN(bytes(packet[UDP].payload))
        if IP not in inner:
            return "VXLAN: no IP"
        inner = inner[IP]
        if inner.proto == 50:
            return "VXLAN: ESP"
        if UDP in inner and inner[UDP].sport == inner[UDP].dport == 500:
            return "VXLAN: IKE"
        return "VXLAN: TCP" if TCP in inner else f"VXLAN: protocol {inner.proto}"
    return "TCP" if TCP in packet else f"protocol {packet[IP].proto}"


def test_an_encrypted_job_spans_hosts_and_the_wire_carries_ike_and_esp_in_vxlan_alone(phalanx, lan):
    seen = set()
    with listening(lan, seen):
        phalanx.create("spread", network=phalanx.network(UDP_500, ESP))
        job = phalanx.ended("spread")
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert seen == {"VXLAN: ESP", "VXLAN: IKE"}
    evidence = phalanx.evidence("spread")
    assert {(pair["local"], pair["remote"]) for pair in evidence["pairs"]} == {("algo-1", "algo-2"), ("algo-2", "algo-1")}
    for pair in evidence["pairs"]:
        assert pair["packets"] == pair["packets_received"] > 0
    assert evidence["gaps"] == []
    assert evidence["plaintext_packets_dropped"] == 0


def test_an_encrypted_ddp_job_on_three_hosts_learns_what_one_process_learns(phalanx, lan):
    # No registry is on the hosts' wire.
    built = phalanx.run("image", "build", "pytorch")
    assert built.returncode == 0, built.stderr
    rows = np.random.default_rng(7).normal(size=(60, 4))
    archive, s3 = io.BytesIO(), phalanx.client("s3")
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        member = tarfile.TarInfo("train.py")
        member.size = len(SCRIPT)
        tar.addfile(member, io.BytesIO(SCRIPT.encode()))
    s3.put_object(Bucket="test-bucket", Key="code/sourcedir.tar.gz", Body=archive.getvalue())
    s3.put_object(Bucket="test-bucket", Key="rows/rows.csv", Body="\n".join(",".join(map(repr, row)) for row in rows.tolist()))
    seen, code = (
        set(),
        {"sagemaker_program": "train.py", "sagemaker_submit_directory": "s3://test-bucket/code/sourcedir.tar.gz"},
    )
    with listening(lan, seen):
        phalanx.create(
            "ddp",
            HOSTS,
            network=phalanx.network(UDP_500, ESP),
            AlgorithmSpecification={"TrainingImage": PYTORCH, "TrainingInputMode": "File"},
            HyperParameters=code,
            InputDataConfig=[channel("rows", name="train")],
        )
        job = phalanx.ended("ddp")
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert seen == {"VXLAN: ESP", "VXLAN: IKE"}
    evidence = phalanx.evidence("ddp")
    assert len(evidence["pairs"]) == HOSTS * (HOSTS - 1)
    assert all(pair["packets"] == pair["packets_received"] > 0 for pair in evidence["pairs"])
    assert (evidence["gaps"], evidence["plaintext_packets_dropped"]) == ([], 0)
    weights, x = np.zeros(4), np.column_stack([rows[:, 1:], np.ones(len(rows))])
    for _ in range(STEPS):
        weights -= RATE * 2 * x.T @ (x @ weights - rows[:, 0]) / len(rows)
    bucket, _, key = job["ModelArtifacts"]["S3ModelArtifacts"].removeprefix("s3://").partition("/")
    with tarfile.open(fileobj=io.BytesIO(s3.get_object(Bucket=bucket, Key=key)["Body"].read())) as tar:
        found = [json.load(tar.extractfile(f"algo-{number}.json")) for number in range(1, HOSTS + 1)]
    assert found == [pytest.approx(weights, abs=1e-9)] * HOSTS


def test_the_same_job_in_the_clear_is_seen_by_the_same_listener(phalanx, lan):
    seen = set()
    with listening(lan, seen):
        phalanx.create("clear", encrypted=False, network=phalanx.network(ALL_TCP))
        job = phalanx.ended("clear")
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert "VXLAN: TCP" in seen
    assert "VXLAN: ESP" not in seen


def test_a_job_goes_on_when_its_hosts_are_upgraded_begins_anew_when_one_is_lost_and_that_may_come_back(phalanx, lan):
    def told() -> list[str]:
        return [each.get("StatusMessage", "") for each in phalanx.describe("moves")["SecondaryStatusTransitions"]]

    phalanx.create_steady("moves", HOSTS, RetryStrategy={"MaximumRetryAttempts": 1})
    phalanx.training("moves")
    before, upgraded = told(), lan.machines[2]
    joined = phalanx.joins(upgraded)
    assert upgraded.leave(signal.SIGHUP) == 0
    left = set(upgraded.processes())
    assert left
    upgraded.join()
    wait_for(lambda: phalanx.joins(upgraded) > joined, 60, "the upgraded host to join")
    # What trains is what trained, and it goes on: were one of them missing, no round would end.
    assert left <= set(upgraded.processes())
    phalanx.training("moves", since=time.time())
    assert told() == before

    lost = lan.machines[1]
    lost.power_off()
    empty = lan.directory / "images"
    phalanx.joined(lan, empty)
    wait_for(lambda: told()[-1].startswith("Training image download completed") and len(told()) > len(before), 240, "the retry")
    # One that is stopped before its first round has no model.
    phalanx.training("moves", since=time.time())
    phalanx.client("sagemaker").stop_training_job(TrainingJobName="moves")
    job = phalanx.ended("moves")
    assert job["TrainingJobStatus"] == "Stopped", job.get("FailureReason")
    assert "ModelArtifacts" in job
    assert any("was lost with its host" in message for message in told())
    # The new one had no image, and was given the control plane's.
    assert "Downloading the training image" in told()
    assert len(Images(empty, lan.directory / "look").listing()) == 1
    lost.join()
    # What was on it is owed to it until then.
    wait_for(lambda: json.loads((phalanx.data_dir / "ray" / "ledger.json").read_text())["places"] == {}, 180, "its return")
