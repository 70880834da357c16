"""Kills any process of a service at random over a queue of jobs, and looks whether every job ends as it should, once."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from botocore.exceptions import BotoCoreError, ClientError
from sqlalchemy import select

from e2e.conftest import ESP, UDP_500, Phalanx, channel, wait_for
from phalanx.cli.replica import DEPOSED
from phalanx.cli.stored import stored
from phalanx.identity.unmanaged import TRUST
from phalanx.jobs.signature import verify
from phalanx.network.capture import Capture
from phalanx.network.errors import NetworkError
from phalanx.store.jobs import TrainingJob
from phalanx.store.leadership import LEASE_SECONDS

VICTIMS = {
    "agent": ("-m phalanx.node",),
    "S3": ("rclone", "serve", "s3"),
    "door of S3": ("phalanx.cli.door",),
    "charon": ("/usr/lib/ipsec/charon",),
    "engine": ("phalanx.ipsec.engine",),
    "monitor": ("conmon",),
    "launcher": ("launch.py",),
    "crun": ("crun",),
    "relay": ("phalanx.network.relay",),
    "lender": ("phalanx.data.lender",),
}
"""Whom to hit besides the service and what is in containers, and the words of its command line."""
BRIEF = ("launcher", "crun")
"""Of these the ones that are there for a moment only."""
ITS_OWN = ("AlgorithmError: ", "ClientError: Please use an instance type with more memory")
"""How a job may fail whose own processes were killed."""
CONTAINERS = 0.25
"""How often, compared with any other kind, a process of a container is hit: its job has then ended."""
WAITING = 3
"""Jobs that are under way or queued at a time."""
PAUSE = (0.5, 3.0)
"""Seconds between two kills."""
MERCY = 0.75
"""How often a blow does not fall while the service is being started: a busy host would see nothing but starts."""
STALLED = 0.2
"""How often one of several replicas is stopped for longer than it may lead unheard."""
STARTS = 5
"""How often in a row the service may end by itself while it is started."""


@dataclass
class Crash:
    """What happened."""

    kills: collections.Counter[str] = field(default_factory=collections.Counter)
    hit: set[str] = field(default_factory=set)
    """Jobs of whose containers a process was killed."""
    jobs: dict[str, str] = field(default_factory=dict)
    """How each acknowledged job ended: its status, and why."""
    restarts: int = 0
    """How many times a job was begun again (RetryStrategy, or a service that was asked to stop)."""
    wrong: list[str] = field(default_factory=list)
    """What should not be."""
    frames: collections.Counter[str] = field(default_factory=collections.Counter)
    """What crossed the network of the encrypted jobs, by kind."""

    def __str__(self) -> str:
        ends = collections.Counter(end.partition(":")[0] for end in self.jobs.values())
        lines = [
            f"{sum(self.kills.values())} kills: {dict(self.kills)}",
            f"{len(self.jobs)} jobs: {dict(ends)}; begun again {self.restarts} times",
            f"on the wire: {dict(self.frames)}",
            *self.wrong,
        ]
        return "\n".join(lines)


class Watch(threading.Thread):
    """Captures in the VPC's router whenever there is one."""

    def __init__(self, router: str, frames: collections.Counter[str]) -> None:
        super().__init__(daemon=True)
        self._path = Path("/run/netns", router)
        self._frames = frames
        self.closing = threading.Event()
        self.lost = 0

    def run(self) -> None:
        inode, capture = None, None
        while not self.closing.wait(0.05):
            with contextlib.suppress(OSError):
                now = self._path.stat().st_ino if self._path.exists() else None
                if now != inode:
                    self._end(capture)
                    inode, capture = now, None
            if inode is not None and capture is None:
                with contextlib.suppress(NetworkError):
                    begun = Capture(self._path.name)
                    begun.start()
                    capture = begun
        self._end(capture)

    def _end(self, capture: Capture | None) -> None:
        if capture is not None:
            capture.stop()
            self.lost += capture.lost
            for flow in capture.summary():
                self._frames[flow.kind] += flow.frames


class Host:
    """A service that is kept running and has jobs to do."""

    def __init__(self, phalanx: Phalanx, seed: int, replicas: Sequence[Phalanx]) -> None:
        self.phalanx = phalanx
        # One that somebody created: its credentials are lent to containers.
        created = phalanx.client("iam").create_role(RoleName="crash", AssumeRolePolicyDocument=json.dumps(TRUST))
        self._role = created["Role"]["Arn"]
        self.services = [phalanx, *replicas]
        self.found = Crash()
        self._chance = random.Random(seed)

    def revive(self) -> None:
        """What a host's init system does: start each service again that has ended."""
        for service in self.services:
            failed = 0
            while service.process.poll() is not None:
                failed += service.process.returncode > 0 and service.process.returncode != DEPOSED
                # It may fail to start where something that it needs is killed meanwhile; but not each time.
                assert failed < STARTS, (service.data_dir.parent / "serve.log").read_text()[-4000:]
                service.spawn()
                try:
                    service.ready()
                except AssertionError:
                    if service.process.poll() is None:
                        raise

    def submit(self, name: str, network: dict) -> bool:
        """Ask for a job until the service has acknowledged it."""
        encrypted = self._chance.random() < 0.7
        members = {"HyperParameters": {"objective": "binary:logistic", "eval_metric": "auc", "num_round": "300"}}
        if not encrypted:
            members["InputDataConfig"] = [channel("train")]
        for _ in range(20):
            self.revive()
            try:
                self._chance.choice(self.services).create(
                    name,
                    instances=2 if encrypted else 1,
                    encrypted=encrypted,
                    network=network if encrypted else None,
                    RoleArn=self._role,
                    RetryStrategy={"MaximumRetryAttempts": 30},
                    **members,
                )
                return True
            except self.phalanx.client("sagemaker").exceptions.ResourceInUse:
                # Acknowledged by a service that was killed before its word arrived.
                return True
            except (BotoCoreError, ClientError) as error:
                self._excuse(error)
                time.sleep(0.5)
        return False

    def goes_on(self, name: str) -> bool:
        """Whether a job has not ended, as far as a service can be asked."""
        self.revive()
        try:
            return self._chance.choice(self.services).describe(name)["TrainingJobStatus"] in ("InProgress", "Stopping")
        except (BotoCoreError, ClientError) as error:
            self._excuse(error)
            return True

    def serves(self) -> bool:
        """Whether each service answers, and S3: what was killed last may have been killed while it started."""
        self.revive()
        try:
            for service in self.services:
                service.client("sagemaker").list_training_jobs()
            self.phalanx.client("s3").head_bucket(Bucket="test-bucket")
        except (BotoCoreError, ClientError) as error:
            self._excuse(error)
            return False
        return True

    def _excuse(self, error: BotoCoreError | ClientError) -> None:
        """A service that is gone does not answer; one that answers says no 500."""
        if isinstance(error, ClientError) and error.response["ResponseMetadata"]["HTTPStatusCode"] == 500:
            self.found.wrong.append(f"answered: {error}")


class Killer(threading.Thread):
    """Kills processes until it is told to end."""

    def __init__(self, host: Host, seed: int, others: Mapping[str, Callable[[], list[int]]]) -> None:
        super().__init__(daemon=True)
        self._phalanx, self._services, self._found, self._others = host.phalanx, host.services, host.found, others
        self._chance = random.Random(seed)
        self.closing = threading.Event()

    def run(self) -> None:
        while not self.closing.wait(self._chance.uniform(*PAUSE)):
            if self._up() or self._chance.random() > MERCY:
                self._hit()

    def _hit(self) -> None:
        """One process: SIGKILL, or now and then SIGSTOP for a second; the service may be asked to stop instead."""
        groups = self._hunted() if self._chance.random() < 0.15 else self._groups()
        if not groups:
            return
        weights = [self._weight(name) for name in groups]
        (name,) = self._chance.choices(list(groups), weights)
        pid = self._chance.choice(groups[name])
        number = signal.SIGSTOP if self._chance.random() < 0.15 else signal.SIGKILL
        if name == "service" and self._chance.random() < 0.25:
            number = signal.SIGTERM
        seconds = 1.0
        if pid in self._up() and len(self._services) > 1 and self._chance.random() < STALLED:
            number, seconds = signal.SIGSTOP, LEASE_SECONDS + 2
        with contextlib.suppress(OSError):
            # Held fast, so that its number cannot go to another before it is hit.
            process = os.pidfd_open(pid)
            try:
                job = self._job_of(pid)
                signal.pidfd_send_signal(process, number)
                self._found.kills[f"{name} by {number.name}" + (" for long" if seconds > 1 else "")] += 1
                if job is not None:
                    self._found.hit.add(job)
                if number == signal.SIGSTOP:
                    time.sleep(seconds)
                    signal.pidfd_send_signal(process, signal.SIGCONT)
            finally:
                os.close(process)

    def _weight(self, name: str) -> float:
        if name == "container":
            return CONTAINERS
        # Of several replicas each is as likely as anything else: it is their doings that are looked at.
        return 1.0 if name != "service" else float(len(self._services))

    def _up(self) -> list[int]:
        return [service.process.pid for service in self._services if service.up and service.process.poll() is None]

    def _hunted(self) -> dict[str, list[int]]:
        """Those that live for a moment only, if one comes by."""
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            groups = self._groups()
            if found := {name: groups[name] for name in BRIEF if name in groups}:
                return found
        return groups

    def _groups(self) -> dict[str, list[int]]:
        groups = collections.defaultdict(list)
        for pid, text in self._phalanx.processes().items():
            if self._instance_of(pid) is not None:
                groups["container"].append(pid)
                continue
            for name, words in VICTIMS.items():
                if all(word in text for word in words):
                    groups[name].append(pid)
                    break
        groups["service"] = [service.process.pid for service in self._services if service.process.poll() is None]
        if len(self._services) > 1 and self._chance.random() < 0.9:
            # While they start only now and then: else all of them do nothing but start.
            groups["service"] = self._up()
        for name, find in self._others.items():
            groups[name] = find()
        return {name: pids for name, pids in groups.items() if pids}

    def _instance_of(self, pid: int) -> str | None:
        """The instance in whose container a process is, by its control group."""
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
                parts = line.rpartition(":")[2].strip("/").split("/")
                if parts[0] == self._phalanx.names.cgroup and parts[2:3] == ["container"]:
                    return parts[1]
        return None

    def _job_of(self, pid: int) -> str | None:
        instance = self._instance_of(pid)
        if instance is None:
            return None
        spec = self._phalanx.names.run_dir / instance / "spec.json"
        return json.loads(spec.read_text())["spec"]["job"]


def crash(
    phalanx: Phalanx,
    seconds: float,
    seed: int,
    kills: int = 0,
    others: Mapping[str, Callable[[], list[int]]] = MappingProxyType({}),
    replicas: Sequence[Phalanx] = (),
) -> Crash:
    """Feed jobs and kill processes for so many seconds and until so many kills are done, let all jobs end, and judge.

    `others` finds processes that are none of the service's, by the name of their kind: they are killed as well. `replicas` run
    beside `phalanx`; requests go to any of them."""
    host = Host(phalanx, seed, replicas)
    found = host.found
    network = phalanx.network(UDP_500, ESP)
    watch = Watch(phalanx.names.router_namespace(phalanx.vpc_of(network)), found.frames)
    watch.start()
    killer = Killer(host, seed, others)
    killer.start()
    acknowledged: list[str] = []
    under_way: list[str] = []
    deadline = time.monotonic() + seconds
    try:
        while time.monotonic() < deadline or sum(found.kills.values()) < kills:
            under_way = [name for name in under_way if host.goes_on(name)]
            if len(under_way) < WAITING:
                name = f"crash-{len(acknowledged)}"
                if host.submit(name, network):
                    acknowledged.append(name)
                    under_way.append(name)
            time.sleep(0.2)
    finally:
        killer.closing.set()
        killer.join()
    host.revive()
    for name in under_way:
        wait_for(lambda name=name: not host.goes_on(name), 300, f"{name} to end")
    wait_for(host.serves, 60, "all that was killed to serve again")
    watch.closing.set()
    watch.join()
    if watch.lost:
        found.wrong.append(f"the capture lost {watch.lost} frames")
    if set(found.frames) - {"ESP", "UDP 500", "ARP", "fragment of ESP"}:
        found.wrong.append(f"on the wire: {dict(found.frames)}")
    judge(phalanx, acknowledged, found)
    return found


def judge(phalanx: Phalanx, names: list[str], found: Crash) -> None:
    """Every acknowledged job ended as it should, exactly once, and its model is there exactly where it completed."""
    s3, wrong = phalanx.client("s3"), found.wrong
    with stored(phalanx.data_dir) as database, database.read() as session:
        reports = {job.name: job.evidence for job in session.scalars(select(TrainingJob))}
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket="test-bucket", Prefix="models/")
    keys = {item["Key"] for page in pages for item in page.get("Contents", [])}
    listed = phalanx.client("sagemaker").get_paginator("list_training_jobs").paginate()
    counted = collections.Counter(job["TrainingJobName"] for page in listed for job in page["TrainingJobSummaries"])
    for name in names:
        job = phalanx.describe(name)
        reason = job.get("FailureReason", "")
        found.jobs[name] = f"{job['TrainingJobStatus']}: {reason}"
        if counted.pop(name, 0) != 1:
            wrong.append(f"{name} is not listed once")
        statuses = [each["Status"] for each in job["SecondaryStatusTransitions"]]
        found.restarts += statuses.count("Restarting")
        if statuses.count("Completed") + statuses.count("Failed") != 1 or statuses[-1] != job["TrainingJobStatus"]:
            wrong.append(f"{name} did not end once: {statuses}")
        model = f"models/{name}/output/model.tar.gz"
        if job["TrainingJobStatus"] == "Completed":
            if model not in keys:
                wrong.append(f"{name} has no model")
            report = reports[name]
            verify(report)
            # An engine that was killed has taken along what it had counted since it was last read, and an interruption says so.
            told = report["gaps"] or any(each["interruptions"] for each in report["instances"])
            if report["encrypted"] and not told and not all(pair["packets"] for pair in report["pairs"]):
                wrong.append(f"{name} completed without encrypted traffic: {report['pairs']}")
        elif name not in found.hit or not reason.startswith(ITS_OWN):
            wrong.append(f"{name} failed for no good reason: {reason} {messages(job)}")
        keys -= {model, f"models/{name}/output/output.tar.gz"}
    if counted:
        wrong.append(f"jobs that nobody asked for: {dict(counted)}")
    if keys:
        wrong.append(f"objects of no job: {sorted(keys)}")
    # What was written of an object that never was: rclone's VFS names such files so.
    parts = [str(path) for pattern in ("*.partial", ".rclone_temp_*") for path in (phalanx.data_dir / "s3").rglob(pattern)]
    if parts:
        wrong.append(f"parts left in S3: {parts}")
    instances = sorted(path.name for path in (phalanx.data_dir / "instances").iterdir())
    if instances:
        wrong.append(f"instances left on the disk: {instances}")


def messages(job: dict) -> list[str]:
    return [each["StatusMessage"] for each in job["SecondaryStatusTransitions"] if each["Status"] == "Restarting"]
