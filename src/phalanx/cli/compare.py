"""`phalanx compare`: what encryption costs a training job, by running it again with and without."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

import typer
from botocore.exceptions import BotoCoreError, ClientError

from phalanx.cli.env import client
from phalanx.cli.evidence import load
from phalanx.cli.settings import DEFAULT_DATA_DIR, DataDir, fail
from phalanx.cli.stored import stored, stored_job
from phalanx.jobs.cost import Cost, estimate

POLL_SECONDS = 0.5
NAME_MAX = 63


def compare(
    job: Annotated[str, typer.Argument(help="Name of an encrypted training job of several instances that has completed.")],
    pairs: Annotated[int, typer.Option(min=1, help="How often to run it each way.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print seconds as JSON.")] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Run a job again, encrypted and in the clear in turns, and hold the estimate of what encryption costs against it.

    The twin in the clear sends its traffic unencrypted, in a network of its own: do not compare jobs whose data must not be.
    """
    with stored(data_dir) as database, database.read() as session:
        row = stored_job(session, job, data_dir)
    if not row.encrypted or row.instances < 2:
        fail(f"{job} did not encrypt: compare takes a job of several instances with EnableInterContainerTrafficEncryption.")
    if row.status != "Completed":
        fail(f"{job} is {row.status}: compare takes a job that has completed.")
    sagemaker = client(data_dir, "sagemaker")
    took: dict[bool, list[float]] = {True: [], False: []}
    costs: list[Cost] = []
    for number in range(pairs):
        # Each of the two goes first in turn: what runs second may find caches warm.
        for encrypted in (True, False) if number % 2 else (False, True):
            name = _name(job, encrypted)
            how = "encrypted" if encrypted else "in the clear"
            typer.echo(f"{name} trains {how} …", err=True)
            took[encrypted].append(_train(sagemaker, again(row.request, name, encrypted)))
            typer.echo(f"{name} trained for {took[encrypted][-1]:.1f} s", err=True)
            if encrypted and (cost := estimate(load(data_dir, name))) is not None:
                costs.append(cost)
    cost = max(costs, key=lambda each: each.likely, default=None)
    if as_json:
        typer.echo(json.dumps({"job": job, "encrypted": took[True], "clear": took[False], "estimate": cost and asdict(cost)}))
    else:
        typer.echo("\n".join(verdict(took[True], took[False], cost)))


def again(request: Mapping[str, Any], name: str, encrypted: bool) -> dict[str, Any]:
    """The request for a job like another: it begins from nothing, and leaves nothing behind but its model and its logs.

    Both twins run in a network of their own: groups made for an encrypted job let nothing else through.
    """
    twin = {**request, "TrainingJobName": name, "EnableInterContainerTrafficEncryption": encrypted}
    for member in ("ExperimentConfig", "Tags", "VpcConfig"):
        twin.pop(member, None)
    if "CheckpointConfig" in twin:
        # The job's own checkpoints would let it go on where that one ended.
        checkpoints = twin["CheckpointConfig"]
        twin["CheckpointConfig"] = {**checkpoints, "S3Uri": f"{checkpoints['S3Uri'].rstrip('/')}/{name}"}
    twin["ResourceConfig"] = {key: value for key, value in twin["ResourceConfig"].items() if key != "KeepAlivePeriodInSeconds"}
    return twin


def verdict(encrypted: list[float], clear: list[float], cost: Cost | None) -> list[str]:
    """What came of it, in lines for people; training times in seconds."""
    longer = statistics.median(one - other for one, other in zip(encrypted, clear, strict=True))
    share = 100 * longer / statistics.median(clear)
    lines = [
        f"training: {_spread(encrypted)} encrypted, {_spread(clear)} in the clear",
        f"measured: encryption made it {longer:.1f} s longer ({share:+.0f} %)",
    ]
    if cost is None:
        return [*lines, "estimated: nothing, the kernel does not count what ESP takes it"]
    lines.append(
        f"estimated from {cost.bytes / 1e6:,.1f} MB between the instances and what they took the data plane: about"
        f" {cost.likely:.1f} s, at most {cost.most:.1f} s"
    )
    if longer > cost.most:
        lines.append("More than the estimate allows: other work on this host, or training that waits for each small message.")
    elif longer < cost.least:
        lines.append("Less than nothing: runs differ by more than encryption costs; try more --pairs.")
    else:
        lines.append("The estimate holds.")
    return lines


def _spread(seconds: list[float]) -> str:
    if len(seconds) == 1:
        return f"{seconds[0]:.1f} s"
    return f"{statistics.median(seconds):.1f} s ({min(seconds):.1f} to {max(seconds):.1f})"


def _name(job: str, encrypted: bool) -> str:
    suffix = f"-{'encrypted' if encrypted else 'clear'}-{time.time_ns() // 1_000_000:x}"
    return job[: NAME_MAX - len(suffix)].rstrip("-") + suffix


def _train(sagemaker: Any, request: dict[str, Any]) -> float:
    """Run a job to its end: for how many seconds it was Training."""
    name = request["TrainingJobName"]
    try:
        sagemaker.create_training_job(**request)
        try:
            while (job := sagemaker.describe_training_job(TrainingJobName=name))["TrainingJobStatus"] == "InProgress":
                time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:
            sagemaker.stop_training_job(TrainingJobName=name)
            fail(f"{name} is being stopped.")
    except (BotoCoreError, ClientError) as error:
        fail(f"{name} cannot be run: {error}")
    if job["TrainingJobStatus"] != "Completed":
        fail(f"{name} ended as {job['TrainingJobStatus']}: {job.get('FailureReason', 'it was stopped')}")
    if job["EnableInterContainerTrafficEncryption"] != request["EnableInterContainerTrafficEncryption"]:
        fail(f"{name} was encrypted all the same, as this service requires it: there is nothing to compare with.")
    spans = [each for each in job["SecondaryStatusTransitions"] if each["Status"] == "Training"]
    return float(sum((each["EndTime"] - each["StartTime"]).total_seconds() for each in spans))
