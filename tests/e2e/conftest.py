"""A live `phalanx serve`, driven as its users drive it."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import boto3
import pytest
from botocore.config import Config

from clients import AwsCli
from phalanx.cli.directory import foreign
from phalanx.node.names import Names

PHALANX = str(Path(sys.executable).parent / "phalanx")
IMAGE = "246618743249.dkr.ecr.us-west-2.amazonaws.com/sagemaker-xgboost:1.7-1"
ROLE = "arn:aws:iam::123456789012:role/SageMakerTraining"
UDP_500 = {"IpProtocol": "udp", "FromPort": 500, "ToPort": 500}
ESP = {"IpProtocol": "50"}
TCP = {"IpProtocol": "tcp", "FromPort": 0, "ToPort": 65535}
SOURCE = Path(__file__).parent / "source"
ROUND = re.compile(r"\[(\d+)\]\s")


@dataclass
class Phalanx:
    """One service with a data directory of its own."""

    data_dir: Path
    port: int
    options: tuple[str, ...] = ()
    process: subprocess.Popen | None = None
    env: dict = field(default_factory=dict)
    clients: dict = field(default_factory=dict)
    up: bool = False
    """Whether it has answered since it was started."""

    @property
    def names(self) -> Names:
        return Names(self.data_dir)

    def replica(self) -> "Phalanx":
        """Another service on the same data directory, not started yet."""
        return Phalanx(self.data_dir, free_port(), self.options)

    def leads(self) -> bool:
        """Whether this replica answers that it leads."""
        token = (self.data_dir / "metrics.token").read_text()
        asked = urllib.request.Request(f"http://127.0.0.1:{self.port}/metrics", headers={"Authorization": f"Bearer {token}"})
        try:
            with urllib.request.urlopen(asked, timeout=5) as answer:
                return b"\nphalanx_leader 1.0" in answer.read()
        except OSError:
            return False

    def start(self, *wrapper: str) -> None:
        self.spawn(*wrapper)
        self.ready()

    def spawn(self, *wrapper: str) -> None:
        self.up = False
        log = (self.data_dir.parent / "serve.log").open("ab")
        self.process = subprocess.Popen(
            [*wrapper, PHALANX, "serve", "--port", str(self.port), "--data-dir", str(self.data_dir), *self.options],
            stderr=log,
            stdout=log,
        )

    def ready(self) -> None:
        wait_for(self._answers, 300, "the service to answer")
        self.up = True
        shown = self.run("env").stdout
        self.env = dict(re.findall(r"^export (\w+)='?([^'\n]*)'?$", shown, re.MULTILINE))
        # Of several replicas the last that started is shown.
        self.env["AWS_ENDPOINT_URL"] = re.sub(r":\d+$", f":{self.port}", self.env["AWS_ENDPOINT_URL"])

    def _answers(self) -> bool:
        assert self.process.poll() is None, (self.data_dir.parent / "serve.log").read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(120)

    def end(self) -> None:
        """Stop, if it runs, however it was left."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.stop()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def run(self, *arguments: str) -> subprocess.CompletedProcess:
        command = [PHALANX, *arguments]
        if arguments[0] not in ("doctor", "image"):
            command += ["--data-dir", str(self.data_dir)]
        seconds = 300 if arguments[0] == "image" else 120  # an image may have to be built
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=seconds)

    def client(self, name: str):
        if name not in self.clients:
            self.clients[name] = self.fresh(name)
        return self.clients[name]

    def fresh(self, name: str):
        """A client of its own, for a thread or for a service that was started again."""
        return boto3.session.Session().client(
            name,
            endpoint_url=self.env["AWS_ENDPOINT_URL_S3" if name == "s3" else "AWS_ENDPOINT_URL"],
            region_name=self.env["AWS_REGION"],
            aws_access_key_id=self.env["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.env["AWS_SECRET_ACCESS_KEY"],
            verify=self.env.get("AWS_CA_BUNDLE"),
            config=Config(request_checksum_calculation="when_required") if "AWS_CA_BUNDLE" in self.env else None,
        )

    def stock(self) -> None:
        """Put into test-bucket what jobs train on."""
        s3 = self.client("s3")
        s3.create_bucket(Bucket="test-bucket", CreateBucketConfiguration={"LocationConstraint": self.env["AWS_REGION"]})
        for part in range(2):
            rows = "".join(f"{(row * 7 + part) % 2},{row % 13},{row % 7 + part}\n" for row in range(200))
            s3.put_object(Bucket="test-bucket", Key=f"train/part-{part}.csv", Body=rows.encode())
        s3.put_object(Bucket="test-bucket", Key="steady/steady.py", Body=(SOURCE / "steady.py").read_bytes())

    def network(self, *permissions: dict) -> dict:
        """A VpcConfig in a VPC of its own, whose group allows just `permissions` to itself, both ways."""
        ec2 = self.client("ec2")
        vpc = ec2.create_vpc(CidrBlock="10.30.0.0/16")["Vpc"]["VpcId"]
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.30.1.0/24")["Subnet"]["SubnetId"]
        group = ec2.create_security_group(GroupName="training", Description="test", VpcId=vpc)["GroupId"]
        ec2.revoke_security_group_egress(
            GroupId=group, IpPermissions=[{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
        )
        rules = [{**permission, "UserIdGroupPairs": [{"GroupId": group}]} for permission in permissions]
        ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=rules)
        ec2.authorize_security_group_egress(GroupId=group, IpPermissions=rules)
        return {"Subnets": [subnet], "SecurityGroupIds": [group]}

    def vpc_of(self, network: dict) -> str:
        return self.client("ec2").describe_subnets(SubnetIds=network["Subnets"])["Subnets"][0]["VpcId"]

    def create(self, name: str, instances: int = 2, encrypted: bool = True, network: dict | None = None, **members) -> None:
        request = {
            "TrainingJobName": name,
            "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": "File"},
            "RoleArn": ROLE,
            "HyperParameters": {"objective": "binary:logistic", "eval_metric": "auc", "num_round": "20"},
            "InputDataConfig": [channel("train", "ShardedByS3Key" if instances > 1 else "FullyReplicated")],
            "OutputDataConfig": {"S3OutputPath": "s3://test-bucket/models"},
            "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": instances, "VolumeSizeInGB": 1},
            "StoppingCondition": {"MaxRuntimeInSeconds": 300},
            "EnableInterContainerTrafficEncryption": encrypted,
            **({"VpcConfig": network} if network else {}),
            **members,
        }
        given = {name: value for name, value in request.items() if value is not None}
        self.client("sagemaker").create_training_job(**given)

    def create_steady(self, name: str, instances: int = 2, **members) -> None:
        """A job that trains until it is `finished`, whatever it may be put through (source/steady.py)."""
        entry = ["python3", "/opt/ml/input/data/steady/steady.py", name]
        algorithm = {"TrainingImage": IMAGE, "TrainingInputMode": "File", "ContainerEntrypoint": entry}
        data = [channel("steady")]
        self.create(name, instances, AlgorithmSpecification=algorithm, HyperParameters=None, InputDataConfig=data, **members)

    def finished(self, name: str) -> dict:
        """Let a steady job train its last round, and DescribeTrainingJob then."""
        for pid, command in self.processes("steady.py", name).items():
            if command.startswith("python3"):
                os.kill(pid, signal.SIGUSR1)
        return self.ended(name)

    def describe(self, name: str) -> dict:
        return self.client("sagemaker").describe_training_job(TrainingJobName=name)

    def ended(self, name: str, seconds: float = 180) -> dict:
        """DescribeTrainingJob once the job has ended."""
        wait_for(lambda: self.describe(name)["TrainingJobStatus"] not in ("InProgress", "Stopping"), seconds, f"{name} to end")
        return self.describe(name)

    def training(self, name: str, rounds: int = 5, since: float = 0) -> None:
        """Wait until a job has trained a few rounds, XGBoost's or a steady job's, since a time (seconds of the epoch)."""
        logs = self.client("logs")

        def lines() -> int:
            described = self.describe(name)
            assert described["TrainingJobStatus"] == "InProgress", described.get("FailureReason")
            found = 0
            with contextlib.suppress(logs.exceptions.ResourceNotFoundException):
                streams = logs.describe_log_streams(
                    logGroupName="/aws/sagemaker/TrainingJobs", logStreamNamePrefix=f"{name}/algo-1"
                )["logStreams"]
                for stream in streams:
                    events = logs.get_log_events(
                        logGroupName="/aws/sagemaker/TrainingJobs",
                        logStreamName=stream["logStreamName"],
                        startTime=int(1000 * since),
                        startFromHead=True,
                    )["events"]
                    found += sum(bool(ROUND.search(event["message"])) for event in events)
            return found

        wait_for(lambda: lines() >= rounds, 120, f"{name} to train")

    def evidence(self, name: str) -> dict:
        shown = self.run("evidence", name, "--json")
        assert shown.returncode == 0, shown.stderr
        return json.loads(shown.stdout)

    def processes(self, *words: str) -> dict[int, str]:
        """This service's processes, in its instances' namespaces and its directories, whose command line holds all `words`."""
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                command = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                places = (command, os.readlink(path / "cwd"))
                named = any(str(own) in place for own in (self.names.run_dir, self.data_dir) for place in places)
                inside = named or self._namespace_of(path)
                if inside and all(word in command for word in words):
                    found[int(path.name)] = command
        return found

    def _namespace_of(self, process: Path) -> bool:
        inode = os.stat(process / "ns" / "net").st_ino
        return any(path.stat().st_ino == inode for path in Path("/run/netns").glob(f"{self.names.namespaces}*"))

    def leftovers(self) -> list[str]:
        """What of this service is left on the host, besides its data directory."""
        left = [str(path) for path in Path("/run/netns").glob(f"{self.names.namespaces}*")]
        left += [line for line in Path("/proc/mounts").read_text().splitlines() if self.names.tag in line]
        left += [line for line in Path("/proc/mounts").read_text().splitlines() if str(self.data_dir) in line]
        for loop in Path("/sys/block").glob("loop*/loop/backing_file"):
            with contextlib.suppress(OSError):
                left += [line for line in loop.read_text().splitlines() if str(self.data_dir) in line]
        left += [str(path) for kind in ("", "*/") for path in Path("/sys/fs/cgroup").glob(f"{kind}{self.names.cgroup}*")]
        left += [str(path) for path in (self.names.run_dir,) if path.exists()]
        left += self.processes().values()
        return left


def channel(prefix: str, distribution: str = "FullyReplicated", name: str | None = None) -> dict:
    return {
        "ChannelName": name or prefix,
        "ContentType": "text/csv",
        "DataSource": {
            "S3DataSource": {
                "S3DataType": "S3Prefix",
                "S3Uri": f"s3://test-bucket/{prefix}/",
                "S3DataDistributionType": distribution,
            }
        },
    }


def wait_for(condition, seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.05)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


@contextlib.contextmanager
def running(directory: Path, *options: str):
    data_dir = directory / "data"
    service = Phalanx(data_dir, free_port(), options)
    try:
        service.start()
        service.stock()
        yield service
    finally:
        if service.process is not None:
            if service.process.poll() is None:
                service.stop()
            elif service.leftovers():
                # The test killed it: a fresh one takes up what is left and clears it away.
                with contextlib.suppress(Exception):
                    service.start()
                    service.stop()
            left = service.leftovers()
            assert left == [], left
            # Else the next start would take the directory for one that others use.
            assert foreign(data_dir) == []


@pytest.fixture
def aws(phalanx, tmp_path):
    """The AWS CLI as `phalanx env` sets it up."""
    env = phalanx.env
    return AwsCli(
        tmp_path,
        endpoint=env["AWS_ENDPOINT_URL"],
        region=env["AWS_REGION"],
        access_key=env["AWS_ACCESS_KEY_ID"],
        secret=env["AWS_SECRET_ACCESS_KEY"],
    )


@pytest.fixture(scope="module")
def phalanx(tmp_path_factory):
    """A service shared by the tests of a module."""
    with running(tmp_path_factory.mktemp("phalanx")) as service:
        yield service


@pytest.fixture
def own_phalanx(tmp_path):
    """A service that the test may kill."""
    with running(tmp_path) as service:
        yield service
