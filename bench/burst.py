"""`python -m bench.burst [--jobs 200]`: real jobs, at once; whether all end right, in order, within the memory.

Each is one container of the built-in image that says its number and writes it as its model. In order: jobs are taken from the
queue as they were created, and each passes through its states as SageMaker's do. The host's memory is looked at ten
times a second: MemAvailable (proc_meminfo(5)) must never fall under what instances are to leave, and no container may be
killed for want of memory.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.live import FIRST_LINE, JOB, client, serving

ENDED = ("Completed", "Failed", "Stopped")
STATES = ["Starting", "Downloading", "Training", "Uploading", "Completed"]
TAKEN = "Preparing the instances for training"
SLACK_SECONDS = 1.0
"""Jobs that are taken from the queue in one look begin at the same time: by so much may their threads overtake each other."""


class Memory:
    """Watches the host."""

    def __init__(self) -> None:
        self.before = self.least = _available()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.1):
            self.least = min(self.least, _available())


def _available() -> int:
    """Bytes."""
    (line,) = (line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable:"))
    return int(line.split()[1]) * 1024


def burst(jobs: int, directory: Path) -> bool:
    """Runs them; prints what came of it."""
    with serving(directory / "data") as environ:
        sagemaker = client("sagemaker", environ)
        memory = Memory()
        begun = time.monotonic()

        def create(number: int) -> None:
            script = f"echo {number}; echo {number} > /opt/ml/model/number"
            specification = {**FIRST_LINE, "ContainerEntrypoint": ["/bin/sh", "-c", script]}
            sagemaker.create_training_job(
                TrainingJobName=f"burst-{number:04}", **{**JOB, "AlgorithmSpecification": specification}
            )

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(create, range(jobs)))
        submitted = time.monotonic() - begun
        most = 0
        while True:
            pages = sagemaker.get_paginator("list_training_jobs").paginate(StatusEquals="InProgress")
            left = [each for page in pages for each in page["TrainingJobSummaries"]]
            if not left:
                break
            states = [sagemaker.describe_training_job(TrainingJobName=each["TrainingJobName"]) for each in left[-40:]]
            most = max(most, sum(state["SecondaryStatus"] in ("Downloading", "Training", "Uploading") for state in states))
            time.sleep(0.5)
        took = time.monotonic() - begun
        memory.close()
        ended = [sagemaker.describe_training_job(TrainingJobName=f"burst-{number:04}") for number in range(jobs)]
        completed = [job for job in ended if job["TrainingJobStatus"] == "Completed"]
        for job in ended:
            if job["TrainingJobStatus"] != "Completed":
                print(f"{job['TrainingJobName']}: {job['TrainingJobStatus']}, {job.get('FailureReason')}")
        crooked = [job["TrainingJobName"] for job in completed if not _in_order(job)]
        overtaken = _overtaken(ended)
        print(f"{len(completed)} of {jobs} jobs completed; submitted in {submitted:.1f} s, ended after {took:.0f} s")
        print(f"{jobs / took:.2f} jobs per second; at most {most} seen at work at a time")
        print(f"through their states in order: {jobs - len(crooked)}; taken from the queue late by at most {overtaken:.2f} s")
        print(f"memory available: {memory.before / 2**30:.1f} GiB before, {memory.least / 2**30:.1f} GiB at the least")
        return len(completed) == jobs and not crooked and overtaken <= SLACK_SECONDS and memory.least > 2**30


def _in_order(job: dict) -> bool:
    """Whether a job went through SageMaker's states, each from the end of the one before (Pending lies within Starting)."""
    steps = job["SecondaryStatusTransitions"]
    passed = [step["Status"] for step in steps if step["Status"] != "Pending"]
    distinct = [state for at, state in enumerate(passed) if at == 0 or state != passed[at - 1]]
    chained = all(step["EndTime"] == following["StartTime"] for step, following in itertools.pairwise(steps))
    return distinct == STATES and chained


def _overtaken(jobs: list[dict]) -> float:
    """Seconds by which a job was taken from the queue after one that was created later, at most."""
    taken = [
        (job["CreationTime"], step["StartTime"])
        for job in jobs
        for step in job["SecondaryStatusTransitions"]
        if step["StatusMessage"] == TAKEN
    ]
    latest, worst = None, 0.0
    for _, start in sorted(taken):
        if latest is not None and start < latest:
            worst = max(worst, (latest - start).total_seconds())
        latest = start if latest is None else max(latest, start)
    return worst


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.burst", description=__doc__)
    parser.add_argument("--jobs", type=int, default=200)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        holds = burst(arguments.jobs, Path(directory))
    print("holds" if holds else "does not hold")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
