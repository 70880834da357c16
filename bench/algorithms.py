"""Training as its users run it: jobs of a live service, in turns with encryption and without, and what they sent each other.

A case's time is what DescribeTrainingJob says of `Training` in SecondaryStatusTransitions: from the containers' start to their
end, the interpreter's start and the reading of data included. Beside it stand the time between two lines of the first host,
"joined" and its last one, which is what counts of the `allreduce` cases; and that of the whole job, from CreationTime to
TrainingEndTime, in which an encrypted one joins its instances by IKE.
"""

from __future__ import annotations

import functools
import json
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pyroute2 import IPRoute

from bench.live import JOB, client, serving
from bench.result import Result
from phalanx.network import namespace
from phalanx.network.errors import NetworkError
from phalanx.node.names import Names

BUCKET = "algorithms"
COUNTS = (2, 4)
POLL_SECONDS = 0.5
SCRIPTS = Path(__file__).with_name("scripts")


@dataclass(frozen=True)
class Workload:
    """What a case trains: image, hyperparameters, `data` (kind, objects for so many instances), or a script's arguments; and
    which of Trained's times counts."""

    repository: str
    what: str
    hyperparameters: dict[str, str] = field(default_factory=dict)
    data: Callable[[int], tuple[str, dict[str, bytes]]] | None = None
    script: tuple[str, ...] = ()
    counts: tuple[int, ...] = COUNTS
    timed: str = "training"


@functools.lru_cache(1)
def table(count: int, instances: int) -> tuple[str, dict[str, bytes]]:
    """Rows of a label that depends on some of 28 features: whole numbers below 1,000, whose text is made fast."""
    source = np.random.default_rng(7)
    rows = source.integers(1000, size=(count, 29), dtype=np.int16)
    hidden = rows[:, 1] + rows[:, 2] * (rows[:, 3] / 500.0) + source.normal(scale=300, size=len(rows))
    rows[:, 0] = hidden > np.median(hidden)
    text = np.full((*rows.shape, 4), ord(","), np.uint8)
    for place, unit in enumerate((100, 10, 1)):
        text[..., place] = ord("0") + rows // unit % 10
    text[:, -1, 3] = ord("\n")
    return "text/csv", {f"{number}.csv": text[number::instances].tobytes() for number in range(instances)}


def series(instances: int) -> tuple[str, dict[str, bytes]]:
    """200 series of 400 hours, with a day's season."""
    source = random.Random(7)
    records = [
        {
            "start": "2020-01-01 00:00:00",
            "target": [10 + number % 7 + 5 * np.sin(hour * np.pi / 12) + source.gauss(0, 1) for hour in range(400)],
        }
        for number in range(200)
    ]
    return "jsonlines", {
        f"{number}.json": "".join(json.dumps(each) + "\n" for each in records[number::instances]).encode()
        for number in range(instances)
    }


_BOOSTED = {"objective": "binary:logistic", "max_depth": "6", "eval_metric": "auc"}
_HOURLY = {"time_freq": "H", "prediction_length": "24", "context_length": "72", "epochs": "60", "mini_batch_size": "64"}
_BINARY = {"predictor_type": "binary_classifier", "mini_batch_size": "1000", "epochs": "2"}

WORKLOADS = {
    "xgboost": Workload(
        "sagemaker-xgboost",
        "40 trees of 1,000,000 rows",
        {**_BOOSTED, "num_round": "40"},
        functools.partial(table, 1_000_000),
    ),
    "xgboost-3m": Workload(
        "sagemaker-xgboost",
        "30 trees of 3,000,000 rows",
        {**_BOOSTED, "num_round": "30"},
        functools.partial(table, 3_000_000),
    ),
    "linear-learner": Workload(
        "linear-learner", "32 models, 2 epochs of 1,000,000 rows", _BINARY, functools.partial(table, 1_000_000)
    ),
    "deepar": Workload("forecasting-deepar", "60 epochs of 200 series", _HOURLY, series),
    "ddp-cnn": Workload("pytorch-training", "0.4M parameters, 150 steps", script=("ddp.py", "cnn")),
    "ddp-25m": Workload("pytorch-training", "ResNet-50, 25.6M parameters, 8 steps", script=("ddp.py", "resnet"), counts=(2,)),
    **{
        f"allreduce-{size}mb": Workload(
            "pytorch-training",
            f"{times} sums of {size} MB",
            script=("allreduce.py", str(size), str(times)),
            counts=(2,),
            timed="joined",
        )
        for size, times in ((1, 4000), (16, 250), (256, 16))
    },
}


def run(quick: bool, chosen: Sequence[str]) -> list[Result]:
    """The cases, `<algorithm>-<instances>`: seconds encrypted against seconds in the clear."""
    results = []
    with tempfile.TemporaryDirectory() as directory:
        data_dir = Path(directory) / "data"
        with serving(data_dir) as environ:
            service = Service(data_dir, environ)
            for name, workload in WORKLOADS.items():
                for count in workload.counts:
                    case = f"{name}-{count}"
                    if not chosen or case in chosen:
                        results.append(service.measure(case, workload, count, runs=1 if quick else 3))
                        print(f"{case}: {results[-1].ratio:.3f}, {results[-1].what}", flush=True)
    return results


class Service:
    """A live service with a network, a bucket and clients."""

    def __init__(self, data_dir: Path, environ: dict[str, str]) -> None:
        self._sagemaker, self._logs, self._s3, ec2 = (client(name, environ) for name in ("sagemaker", "logs", "s3", "ec2"))
        self._s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": environ["AWS_REGION"]})
        for script in SCRIPTS.glob("*.py"):
            self._s3.upload_file(str(script), BUCKET, f"code/{script.name}")
        vpc = ec2.create_vpc(CidrBlock="10.60.0.0/16")["Vpc"]["VpcId"]
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.60.1.0/24")["Subnet"]["SubnetId"]
        group = ec2.create_security_group(GroupName="all", Description="bench", VpcId=vpc)["GroupId"]
        among = [{"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group}]}]
        ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=among)
        self._network = {"Subnets": [subnet], "SecurityGroupIds": [group]}
        self._router = Names(data_dir).router_namespace(vpc)
        self._warm: set[str] = set()

    def measure(self, case: str, workload: Workload, count: int, runs: int) -> Result:
        """Runs in turns, encrypted and in the clear; the first case of an image after one that builds it and warms caches."""
        if workload.data:
            kind, parts = workload.data(count)
            for name, content in parts.items():
                self._s3.put_object(Bucket=BUCKET, Key=f"{case}/{name}", Body=content)
            channel = self._channel("train", case, "ShardedByS3Key", kind)
        else:
            channel = self._channel("code", "code", "FullyReplicated", "text/x-python")
        if workload.repository not in self._warm:
            self._train(f"{case}-warm", workload, count, channel, True)
            self._warm.add(workload.repository)
        pairs = []
        for number in range(runs):
            trained = {}
            # Each of the two goes first in turn.
            for encrypted in (True, False) if number % 2 else (False, True):
                name = f"{case}-{'encrypted' if encrypted else 'clear'}-{number}"
                trained[encrypted] = self._train(name, workload, count, channel, encrypted)
            pairs.append((trained[True], trained[False]))
        said = [
            f"{word} {statistics.median(of(on) for on, _ in pairs):.1f} ({statistics.median(of(off) for _, off in pairs):.1f})"
            for word, of in (
                ("MB sent", lambda each: each.sent / 1e6),
                ("s training", lambda each: each.training),
                ("s once joined", lambda each: each.joined),
                ("s in all", lambda each: each.whole),
            )
        ]
        times = [(getattr(on, workload.timed), getattr(off, workload.timed)) for on, off in pairs]
        return Result(case, "s", f"{workload.what}: {', '.join(said)}", "in the clear", times)

    @staticmethod
    def _channel(name: str, prefix: str, distribution: str, kind: str) -> dict[str, Any]:
        source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/{prefix}/", "S3DataDistributionType": distribution}
        return {"ChannelName": name, "ContentType": kind, "DataSource": {"S3DataSource": source}}

    def _train(self, name: str, workload: Workload, count: int, channel: dict[str, Any], encrypted: bool) -> Trained:
        algorithm: dict[str, Any] = {
            "TrainingImage": f"123456789012.dkr.ecr.us-west-2.amazonaws.com/{workload.repository}:1",
            "TrainingInputMode": "File",
        }
        if workload.script:
            script, *arguments = workload.script
            algorithm["ContainerEntrypoint"] = ["python3", f"/opt/ml/input/data/code/{script}", *arguments]
        with Meter(self._router) as meter:
            self._sagemaker.create_training_job(
                TrainingJobName=name,
                AlgorithmSpecification=algorithm,
                HyperParameters=workload.hyperparameters,
                InputDataConfig=[channel],
                OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/models"},
                RoleArn=JOB["RoleArn"],
                ResourceConfig={**JOB["ResourceConfig"], "InstanceCount": count},
                StoppingCondition={"MaxRuntimeInSeconds": 600},
                VpcConfig=self._network,
                EnableInterContainerTrafficEncryption=encrypted,
            )
            while (job := self._sagemaker.describe_training_job(TrainingJobName=name))["TrainingJobStatus"] == "InProgress":
                time.sleep(0.5)
        assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
        group = "/aws/sagemaker/TrainingJobs"
        streams = self._logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{name}/algo-1")["logStreams"]
        events = self._logs.get_log_events(logGroupName=group, logStreamName=streams[0]["logStreamName"], startFromHead=True)
        lines = events["events"]
        begun = next(line["timestamp"] for line in lines if "joined" in line["message"])
        at = {each["Status"]: each for each in job["SecondaryStatusTransitions"]}
        return Trained(
            training=(at["Training"]["EndTime"] - at["Training"]["StartTime"]).total_seconds(),
            joined=(lines[-1]["timestamp"] - begun) / 1000,
            whole=(job["TrainingEndTime"] - job["CreationTime"]).total_seconds(),
            sent=meter.sent,
        )


@dataclass(frozen=True)
class Trained:
    """What a job took, in seconds, and the bytes that its instances sent each other, headers included."""

    training: float
    joined: float
    whole: float
    sent: int


class Meter:
    """Counts what the instances of a VPC send, as the router sees it, from before there are any until they are gone."""

    def __init__(self, router: str) -> None:
        self._router = router
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.sent = 0

    def __enter__(self) -> Meter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(POLL_SECONDS):
            # The router comes and goes with the instances.
            with suppress(NetworkError, OSError), namespace.entered(self._router), IPRoute() as netlink:
                links = [link for link in netlink.get_links() if str(link.get("ifalias", "")).startswith("eni-")]
                self.sent = max(self.sent, sum(link.get("stats64")["rx_bytes"] for link in links))
