"""Tuning jobs: what a training job of 50 ms costs where a tuning job starts a hundred, ten at a time, encrypted and not."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench import live
from bench.live import JOB
from bench.result import Result

PARALLEL = 10
TAG = "phalanx-bench-objective:1"
SECONDS = 0.05
TRAIN = f'sleep {SECONDS}; x=$(od -An -N2 -tu2 /dev/urandom); echo "loss=$x"'
KINDS = {
    "encrypted-2": ("two encrypted instances", 2, True),
    "clear-2": ("two instances in the clear", 2, False),
    "single": ("one instance", 1, False),
}
PARTS = {
    "child": "elapsed per training job, less its 50 ms",
    "queue": "from its creation until it is begun",
    "network": "namespace, interface, rules, guards",
    "ike": "data plane, IKE daemon, SAs",
    "load": "image and /opt/ml",
    "container": "container started and ended, logs taken over, less its 50 ms",
    "upload": "artifacts to S3",
    "end": "measured, signed, taken down",
}
"""What is told of a tuning job: the first for all of it, the others the means over its training jobs, ten of which share the
CPUs. Of two instances the slower one counts."""


def run(quick: bool, chosen: Sequence[str]) -> list[Result]:
    """One tuning job of each kind; `chosen` are cases `tuning-KIND`, those alone. The one of one instance is the baseline."""
    children = 20 if quick else 100
    kinds = [kind for kind in KINDS if not chosen or f"tuning-{kind}" in chosen]
    taken = {}
    with tempfile.TemporaryDirectory() as directory, live.serving(Path(directory) / "data") as environ:
        _build(Path(directory))
        client = live.client("sagemaker", environ)
        log = Path(directory) / "data" / "agent.log"
        _tune(client, log, "warm", 2, True, PARALLEL)
        for kind in kinds:
            _, instances, encrypted = KINDS[kind]
            taken[kind] = _tune(client, log, kind, instances, encrypted, children)
    base = taken.get("clear-2") or next(iter(taken.values()))
    return [
        Result(
            f"tuning-{kind}-{part}", "s", f"{PARTS[part]}: {KINDS[kind][0]}", "two in the clear", [(times[part], base[part])]
        )
        for kind, times in taken.items()
        for part in PARTS
    ]


def _build(directory: Path) -> None:
    """An image whose training is 50 ms long and emits its objective."""
    context = directory / "image"
    context.mkdir()
    (context / "train.sh").write_text(TRAIN + "\n")
    (context / "Containerfile").write_text('FROM phalanx/base\nCOPY train.sh /train.sh\nENTRYPOINT ["/bin/sh", "/train.sh"]\n')
    program = str(Path(sys.executable).parent / "phalanx")
    subprocess.run([program, "image", "build", str(context), "--tag", TAG], check=True, stdout=subprocess.DEVNULL)


def _tune(client, log: Path, name: str, instances: int, encrypted: bool, children: int) -> dict[str, float]:
    """Seconds of each of PARTS."""
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
        time.sleep(0.5)
    elapsed = (job["HyperParameterTuningEndTime"] - job["CreationTime"]).total_seconds()
    found: dict[str, list[float]] = defaultdict(list)
    steps = _steps(log)
    pages = client.get_paginator("list_training_jobs_for_hyper_parameter_tuning_job")
    for page in pages.paginate(HyperParameterTuningJobName=name):
        for each in page["TrainingJobSummaries"]:
            training = client.describe_training_job(TrainingJobName=each["TrainingJobName"])
            assert training["TrainingJobStatus"] == "Completed", training["FailureReason"]
            for part, seconds in {**steps[each["TrainingJobName"]], **_times(training)}.items():
                found[part].append(seconds)
    # Told to the millisecond: nothing takes none.
    means = {part: max(statistics.fmean(seconds), 0.001) for part, seconds in found.items()}
    return {"child": elapsed / children - SECONDS / PARALLEL, **means}


def _times(training: Mapping) -> dict[str, float]:
    """The parts of a training job's life that its transitions tell."""
    at = {each["StatusMessage"]: each["StartTime"].timestamp() for each in training["SecondaryStatusTransitions"]}
    uploading = at["Uploading generated training model"]
    uploaded = training["TrainingEndTime"].timestamp()
    return {
        "queue": at["Preparing the instances for training"] - training["CreationTime"].timestamp(),
        "container": uploading - at["Training image download completed. Training in progress."] - SECONDS,
        "upload": uploaded - uploading,
        "end": at["Training job completed"] - uploaded,
    }


def _steps(log: Path) -> dict[str, dict[str, float]]:
    """The parts that the node agent logs, by training job."""
    found: dict[str, dict[str, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for line in (json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")):
        if line["event"] in ("instance attached", "instance reached"):
            found[line["job"]][line["instance"]][line.get("phase", "ATTACHED")] = line["seconds"]
    return {
        job: {
            "network": max(each["ATTACHED"] for each in instances.values()),
            "ike": max(each["PREPARED"] - each["ATTACHED"] + each["CONNECTED"] for each in instances.values()),
            "load": max(each["LOADED"] for each in instances.values()),
        }
        for job, instances in found.items()
    }
