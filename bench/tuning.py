"""Tuning jobs: what a training job of 50 ms costs where a tuning job starts a hundred, ten at a time, encrypted and not."""

from __future__ import annotations

import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import boto3

from bench.api import JOB, _phalanx
from bench.result import Result

PARALLEL = 10
TAG = "phalanx-bench-objective:1"
TRAIN = 'sleep 0.05; x=$(od -An -N2 -tu2 /dev/urandom); echo "loss=$x"'
STAGES = {
    "Preparing the instances for training": "start",
    "Downloading input data": "download",
    "Training image download completed. Training in progress.": "container",
    "Uploading generated training model": "upload",
}
"""The parts of a training job's life by the message of the transition that begins each. `start` is the network: interface,
rules and, where it is encrypted, certificates and IKE."""


def run(quick: bool, chosen: Sequence[str]) -> list[Result]:
    """Tuning jobs in turns: on two encrypted instances, on two in the clear, on one."""
    children = 20 if quick else 100
    with tempfile.TemporaryDirectory() as directory, _phalanx(Path(directory) / "data") as environ:
        _build(Path(directory))
        client = boto3.client(
            "sagemaker",
            endpoint_url=environ["AWS_ENDPOINT_URL"],
            region_name=environ["AWS_REGION"],
            aws_access_key_id=environ["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=environ["AWS_SECRET_ACCESS_KEY"],
        )
        _tune(client, "warm", 2, True, PARALLEL)
        clear = _tune(client, "clear", 2, False, children)
        taken = {
            "encrypted-2": ("two encrypted instances", _tune(client, "encrypted", 2, True, children)),
            "single": ("one instance", _tune(client, "single", 1, False, children)),
        }
    return [
        Result(f"tuning-{name}-{part}", "s", f"{_meaning(part)}, {what}", "two in the clear", [(times[part], clear[part])])
        for name, (what, times) in taken.items()
        for part in clear
        if not chosen or f"tuning-{name}-{part}" in chosen
    ]


def _meaning(part: str) -> str:
    return "elapsed per training job" if part == "child" else f"mean of {part}, {PARALLEL} at a time"


def _build(directory: Path) -> None:
    """An image whose training is 50 ms long and emits its objective."""
    context = directory / "image"
    context.mkdir()
    (context / "train.sh").write_text(TRAIN + "\n")
    (context / "Containerfile").write_text('FROM phalanx/base\nCOPY train.sh /train.sh\nENTRYPOINT ["/bin/sh", "/train.sh"]\n')
    program = str(Path(sys.executable).parent / "phalanx")
    subprocess.run([program, "image", "build", str(context), "--tag", TAG], check=True, stdout=subprocess.DEVNULL)


def _tune(client, name: str, instances: int, encrypted: bool, children: int) -> dict[str, float]:
    """Seconds that pass for each training job, and the means of the parts of their lives."""
    client.create_hyper_parameter_tuning_job(
        HyperParameterTuningJobName=name,
        HyperParameterTuningJobConfig={
            "Strategy": "Random",
            "HyperParameterTuningJobObjective": {"Type": "Minimize", "MetricName": "loss"},
            "ResourceLimits": {"MaxNumberOfTrainingJobs": children, "MaxParallelTrainingJobs": PARALLEL},
            "ParameterRanges": {"ContinuousParameterRanges": [{"Name": "x", "MinValue": "0", "MaxValue": "1"}]},
        },
        TrainingJobDefinition={
            "AlgorithmSpecification": {
                "TrainingImage": TAG,
                "TrainingInputMode": "File",
                "MetricDefinitions": [{"Name": "loss", "Regex": "loss= *([0-9]+)"}],
            },
            **{member: JOB[member] for member in ("RoleArn", "OutputDataConfig", "StoppingCondition")},
            "ResourceConfig": {**JOB["ResourceConfig"], "InstanceCount": instances},
            "EnableInterContainerTrafficEncryption": encrypted,
        },
    )
    while True:
        job = client.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
        if job["HyperParameterTuningJobStatus"] != "InProgress":
            break
        time.sleep(0.2)
    assert job["TrainingJobStatusCounters"]["Completed"] == children, job
    elapsed = (job["HyperParameterTuningEndTime"] - job["CreationTime"]).total_seconds()
    parts: dict[str, list[float]] = {part: [] for part in STAGES.values()}
    pages = client.get_paginator("list_training_jobs_for_hyper_parameter_tuning_job")
    for page in pages.paginate(HyperParameterTuningJobName=name):
        for each in page["TrainingJobSummaries"]:
            training = client.describe_training_job(TrainingJobName=each["TrainingJobName"])
            for one, after in itertools.pairwise(training["SecondaryStatusTransitions"]):
                if one["StatusMessage"] in STAGES:
                    seconds = (after["StartTime"] - one["StartTime"]).total_seconds()
                    parts[STAGES[one["StatusMessage"]]].append(seconds)
    return {"child": elapsed / children, **{part: statistics.fmean(found) for part, found in parts.items()}}
