"""Training as its users run it: jobs of a live service, in turns with encryption and without, and what they sent each other.

A case's time is that of training itself: from the line of the first host that says that all have joined to its last one. What
comes before (image, channels, the interpreter) is measured by `start-encrypted-2`.
"""

from __future__ import annotations

import functools
import io
import json
import random
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import numpy as np
from pyroute2 import IPRoute

from bench.api import JOB, _phalanx
from bench.result import Result
from phalanx.network import namespace
from phalanx.network.errors import NetworkError
from phalanx.node.names import Names

BUCKET = "algorithms"
COUNTS = (2, 4)
POLL_SECONDS = 0.1
SCRIPTS = Path(__file__).with_name("scripts")


@dataclass(frozen=True)
class Workload:
    """What a case trains: image, hyperparameters, `data` (kind, objects for so many instances), or a script's arguments."""

    repository: str
    what: str
    hyperparameters: dict[str, str] = field(default_factory=dict)
    data: Callable[[int], tuple[str, dict[str, str]]] | None = None
    script: tuple[str, ...] = ()
    counts: tuple[int, ...] = COUNTS


@functools.cache
def table(instances: int) -> tuple[str, dict[str, str]]:
    """300,000 rows of a label that depends on some of 28 features."""
    source = np.random.default_rng(7)
    features = source.normal(size=(300_000, 28))
    labels = features[:, 0] + features[:, 1] * features[:, 2] + source.normal(size=len(features)) > 0
    parts = {}
    for number in range(instances):
        text = io.StringIO()
        rows = np.column_stack([labels, features])[number::instances]
        np.savetxt(text, rows, delimiter=",", fmt="%.5g")
        parts[f"{number}.csv"] = text.getvalue()
    return "text/csv", parts


def series(instances: int) -> tuple[str, dict[str, str]]:
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
        f"{number}.json": "".join(json.dumps(each) + "\n" for each in records[number::instances]) for number in range(instances)
    }


_HOURLY = {"time_freq": "H", "prediction_length": "24", "context_length": "72", "epochs": "6", "mini_batch_size": "64"}
_BINARY = {"predictor_type": "binary_classifier", "mini_batch_size": "1000", "epochs": "2"}

WORKLOADS = {
    "xgboost": Workload(
        "sagemaker-xgboost",
        "40 trees of 300,000 rows",
        {"objective": "binary:logistic", "num_round": "40", "max_depth": "6", "eval_metric": "auc"},
        table,
    ),
    "linear-learner": Workload("linear-learner", "32 models, 2 epochs of 300,000 rows", _BINARY, table),
    "deepar": Workload("forecasting-deepar", "6 epochs of 200 series", _HOURLY, series),
    "ddp-cnn": Workload("pytorch-training", "0.4M parameters, 150 steps", script=("ddp.py", "cnn")),
    "ddp-25m": Workload("pytorch-training", "ResNet-50, 25.6M parameters, 8 steps", script=("ddp.py", "resnet"), counts=(2,)),
    **{
        f"allreduce-{size}mb": Workload(
            "pytorch-training", f"{times} sums of {size} MB", script=("allreduce.py", str(size), str(times)), counts=(2,)
        )
        for size, times in ((1, 1000), (16, 100), (256, 8))
    },
}


def run(quick: bool, chosen: Sequence[str]) -> list[Result]:
    """The cases, `<algorithm>-<instances>`: seconds encrypted against seconds in the clear."""
    results = []
    with tempfile.TemporaryDirectory() as directory:
        data_dir = Path(directory) / "data"
        with _phalanx(data_dir) as environ:
            service = Service(data_dir, environ)
            for name, workload in WORKLOADS.items():
                for count in workload.counts:
                    case = f"{name}-{count}"
                    if not chosen or case in chosen:
                        results.append(service.measure(case, workload, count, runs=1 if quick else 3))
    return results


class Service:
    """A live service with a network, a bucket and clients."""

    def __init__(self, data_dir: Path, environ: dict[str, str]) -> None:
        def client(name: str) -> Any:
            return boto3.client(
                name,
                endpoint_url=environ["AWS_ENDPOINT_URL_S3" if name == "s3" else "AWS_ENDPOINT_URL"],
                region_name=environ["AWS_REGION"],
                aws_access_key_id=environ["AWS_ACCESS_KEY_ID"],
                aws_secret_access_key=environ["AWS_SECRET_ACCESS_KEY"],
            )

        self._sagemaker, self._logs, self._s3, ec2 = (client(name) for name in ("sagemaker", "logs", "s3", "ec2"))
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

    def measure(self, case: str, workload: Workload, count: int, runs: int) -> Result:
        """Runs in turns, encrypted and in the clear, after one that warms caches (and builds the image, if need be)."""
        if workload.data:
            kind, parts = workload.data(count)
            for name, text in parts.items():
                self._s3.put_object(Bucket=BUCKET, Key=f"{case}/{name}", Body=text.encode())
            channel = self._channel("train", case, "ShardedByS3Key", kind)
        else:
            channel = self._channel("code", "code", "FullyReplicated", "text/x-python")
        self._train(f"{case}-warm", workload, count, channel, True)
        pairs, sent = [], {True: 0, False: 0}
        for number in range(runs):
            seconds = {}
            # Each of the two goes first in turn.
            for encrypted in (True, False) if number % 2 else (False, True):
                name = f"{case}-{'encrypted' if encrypted else 'clear'}-{number}"
                seconds[encrypted], sent[encrypted] = self._train(name, workload, count, channel, encrypted)
            pairs.append((seconds[True], seconds[False]))
        bytes_sent = f"{sent[True] / 1e6:.1f} MB sent ({sent[False] / 1e6:.1f} in the clear)"
        return Result(case, "s", f"{workload.what}, {bytes_sent}", "in the clear", pairs)

    @staticmethod
    def _channel(name: str, prefix: str, distribution: str, kind: str) -> dict[str, Any]:
        source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/{prefix}/", "S3DataDistributionType": distribution}
        return {"ChannelName": name, "ContentType": kind, "DataSource": {"S3DataSource": source}}

    def _train(self, name: str, workload: Workload, count: int, channel: dict[str, Any], encrypted: bool) -> tuple[float, int]:
        """Seconds that training took, and the bytes that the instances sent each other meanwhile, headers included."""
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
        return (lines[-1]["timestamp"] - begun) / 1000, meter.sent


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
