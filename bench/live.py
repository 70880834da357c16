"""A live service of a case's own, clients of it, and the job that cases ask of it."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3

REGION, ACCOUNT = "us-west-2", "123456789012"
IMAGE = "246618743249.dkr.ecr.us-west-2.amazonaws.com/sagemaker-xgboost:1.7-1"
JOB = {
    "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": "File"},
    "RoleArn": f"arn:aws:iam::{ACCOUNT}:role/SageMakerTraining",
    "OutputDataConfig": {"S3OutputPath": f"s3://sagemaker-{REGION}-{ACCOUNT}/models"},
    "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
    "StoppingCondition": {"MaxRuntimeInSeconds": 300},
}
FIRST_LINE = {
    "TrainingImage": IMAGE,
    "TrainingInputMode": "File",
    "ContainerEntrypoint": ["/bin/sh", "-c", "echo started"],
}


@contextlib.contextmanager
def serving(data_dir: Path) -> Iterator[dict[str, str]]:
    """A `phalanx serve` of its own; what `phalanx env` says of it."""
    program = str(Path(sys.executable).parent / "phalanx")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = subprocess.Popen([program, "serve", "--port", str(port), "--data-dir", str(data_dir)], stderr=subprocess.DEVNULL)
    try:
        while True:
            assert process.poll() is None, "phalanx serve ended"
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        shown = subprocess.run([program, "env", "--data-dir", str(data_dir)], check=True, capture_output=True, text=True).stdout
        yield dict(re.findall(r"^export (\w+)='?([^'\n]*)'?$", shown, re.MULTILINE))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(120)


def client(service: str, environ: Mapping[str, str]) -> Any:
    """A client of one of its services, by what `serving` gave."""
    return boto3.client(
        service,
        endpoint_url=environ["AWS_ENDPOINT_URL_S3" if service == "s3" else "AWS_ENDPOINT_URL"],
        region_name=environ["AWS_REGION"],
        aws_access_key_id=environ["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environ["AWS_SECRET_ACCESS_KEY"],
    )
