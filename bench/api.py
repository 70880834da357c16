"""The API and the way to a job's first line: `api-pairs`, `api-describe`, `start-single`, `start-encrypted-2`."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from bench.live import ACCOUNT, FIRST_LINE, JOB, REGION, client, serving
from bench.result import Result

ACCESS_KEY, SECRET = "AKIABENCHMARK", "secret"
CLIENTS = 8
FEW, MANY = 10, 100_000
"""Stored jobs that DescribeTrainingJob is compared between."""
MOTO = "moto[server]==5.1.22"


def run(quick: bool, chosen: Sequence[str]) -> list[Result]:
    """The cases, each in turns with what it is compared with."""
    results = []
    if not chosen or "api-pairs" in chosen:
        results.append(_pairs(runs=2 if quick else 5, seconds=3 if quick else 10))
    if not chosen or "api-describe" in chosen:
        results.append(_describe(runs=3 if quick else 7, requests=200 if quick else 1000))
    if not chosen or {"start-single", "start-encrypted-2"} & set(chosen):
        results += _starts(runs=3 if quick else 15)
    return results


def _pairs(runs: int, seconds: float) -> Result:
    from clients import environment

    with tempfile.TemporaryDirectory() as directory:
        moto = [environment(MOTO) / "bin/moto_server", "-H", "127.0.0.1", "-p"]
        with _server([sys.executable, "-m", "bench.api", directory]) as ours, _server(moto) as theirs:
            for port in (ours, theirs):
                _load(port, "warm", 1)
            pairs = [(_load(ours, f"r{number}", seconds), _load(theirs, f"r{number}", seconds)) for number in range(runs)]
    what = f"CreateTrainingJob and DescribeTrainingJob by {CLIENTS} clients, committed to disk"
    return Result("api-pairs", "pairs/s", what, "moto_server, which keeps them in memory", pairs)


def _describe(runs: int, requests: int) -> Result:
    """Median time of DescribeTrainingJob, one client, with many jobs stored and with few."""
    with tempfile.TemporaryDirectory() as small, tempfile.TemporaryDirectory() as large:
        _fill(Path(small), FEW)
        _fill(Path(large), MANY)
        ours = [sys.executable, "-m", "bench.api"]
        with _server([*ours, large]) as many, _server([*ours, small]) as few:
            pairs = [(_median(many, MANY, requests), _median(few, FEW, requests)) for _ in range(runs + 1)][1:]
    return Result("api-describe", "ms", f"median of DescribeTrainingJob with {MANY} stored jobs", f"with {FEW}", pairs)


def _median(port: int, jobs: int, requests: int) -> float:
    """Milliseconds."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    taken = []
    for number in range(requests):
        name = f"stored-{number * 7919 % jobs}"
        before = time.perf_counter()
        assert _call(connection, port, "DescribeTrainingJob", {"TrainingJobName": name})["TrainingJobName"] == name
        taken.append(time.perf_counter() - before)
    return 1000 * statistics.median(taken)


def _fill(directory: Path, jobs: int) -> None:
    """Store jobs that have ended."""
    from sqlalchemy import insert

    from phalanx.store.base import now_ms
    from phalanx.store.database import Database, sqlite_url
    from phalanx.store.jobs import TrainingJob, Transition

    database = Database(sqlite_url(directory / "phalanx.db"))
    database.migrate()
    now, known = now_ms(), {"status": "Completed", "secondary_status": "Completed", "stage": "ended"}
    for first in range(0, jobs, 10_000):
        names = [f"stored-{number}" for number in range(first, min(first + 10_000, jobs))]
        rows = [
            {
                "name": name,
                "arn": f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:training-job/{name}",
                "request": {"TrainingJobName": name, **JOB},
                "created": now + first,
                "modified": now + first,
                "instances": 1,
                "encrypted": False,
                **known,
            }
            for name in names
        ]
        steps = ("Starting", "Downloading", "Training", "Uploading", "Completed")
        entries = [
            {"job": name, "number": number, "status": step, "message": step, "started": now, "ended": now}
            for name in names
            for number, step in enumerate(steps)
        ]
        with database.write() as session:
            session.connection().execute(insert(TrainingJob.metadata.tables["training_jobs"]), rows)
            session.connection().execute(insert(Transition.metadata.tables["transitions"]), entries)
    database.close()


def _load(port: int, name: str, seconds: float) -> float:
    """Pairs of requests per second that so many clients get answered."""
    deadline = time.monotonic() + seconds

    def ask(number: int) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        count = 0
        while time.monotonic() < deadline:
            job = f"{name}-{number}-{count}"
            _call(connection, port, "CreateTrainingJob", {"TrainingJobName": job, **JOB})
            assert _call(connection, port, "DescribeTrainingJob", {"TrainingJobName": job})["TrainingJobName"] == job
            count += 1
        return count

    started = time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as clients:
        return sum(clients.map(ask, range(CLIENTS))) / (time.monotonic() - started)


def _call(connection: http.client.HTTPConnection, port: int, operation: str, members: dict) -> dict:
    body = json.dumps(members)
    headers = {"X-Amz-Target": f"SageMaker.{operation}", "Content-Type": "application/x-amz-json-1.1"}
    request = AWSRequest("POST", f"http://127.0.0.1:{port}/", headers, body)
    SigV4Auth(Credentials(ACCESS_KEY, SECRET), "sagemaker", REGION).add_auth(request)
    connection.request("POST", "/", body, dict(request.headers.items()))
    response = connection.getresponse()
    content = response.read()
    assert response.status == 200, content
    return json.loads(content)


@contextlib.contextmanager
def _server(command: Sequence[object]) -> Iterator[int]:
    """A server, given its port as the last argument, once it answers."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = subprocess.Popen([*map(str, command), str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            assert process.poll() is None, f"{command[0]} ended"
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(60)


def _serve(directory: Path, port: int) -> None:
    """The service as `phalanx serve` has it, without a fleet behind it: its jobs stay where they are stored."""
    import uvicorn

    from phalanx.identity.authority import Authority
    from phalanx.identity.directory import Directory
    from phalanx.identity.seal import Seal
    from phalanx.identity.trail import Trail
    from phalanx.services.sagemaker.service import service
    from phalanx.store.database import Database, sqlite_url
    from phalanx.store.identity import AccessKey, InlinePolicy, User
    from phalanx.wire import heap
    from phalanx.wire.app import application

    class Control:
        def wake(self) -> None: ...

        def gpus(self) -> int:
            return 0

        def disk_is_encrypted(self) -> bool:
            return False

        def knows_image(self, uri: str) -> bool:
            return True

        def has_objects(self, uri: str, role: str) -> bool:
            return True

        def keeps(self, uri: str) -> bool:
            return True

        def network_changed(self, *vpc_ids: str) -> None: ...

    database = Database(sqlite_url(directory / "phalanx.db"))
    database.migrate()
    seal = Seal(directory / "identity.key")
    # A user whom policies bind: the administrator would be let through without them.
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": ["sagemaker:*", "iam:PassRole"], "Resource": "*"},
            {
                "Effect": "Deny",
                "Action": "sagemaker:Create*",
                "Resource": "*",
                "Condition": {"StringNotEquals": {"sagemaker:InstanceTypes": "ml.m5.large"}},
            },
        ],
    }
    with database.write() as session:
        session.merge(User(name="bench", id="AIDABENCH", tags={}))
        session.merge(InlinePolicy(kind="user", owner="bench", name="train", document=json.dumps(policy)))
        session.merge(AccessKey(id=ACCESS_KEY, secret=seal.close(SECRET, ACCESS_KEY), user_name="bench", created=0))
    known = Directory(database, seal, ACCOUNT)
    guard = Authority(known, Trail(directory / "audit", ACCOUNT))
    app = application([service(database, Control())], known.principal, ACCOUNT, guard, store=database)
    heap.settle()
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False, lifespan="off", proxy_headers=False)


def _starts(runs: int) -> list[Result]:
    """From CreateTrainingJob to the container's first line; the image is there, as after a first job."""
    with tempfile.TemporaryDirectory() as directory, serving(Path(directory) / "data") as environ:
        single, clear, encrypted = [], [], []
        for number in range(-1, runs):
            taken = [
                _start(environ, f"single-{number}", 1, False),
                _start(environ, f"clear-{number}", 2, False),
                _start(environ, f"encrypted-{number}", 2, True),
            ]
            if number >= 0:
                for seconds, into in zip(taken, (single, clear, encrypted), strict=True):
                    into.append(seconds)
    what = "from CreateTrainingJob to the first line"
    return [
        Result("start-single", "s", f"{what}, one instance", "two instances", list(zip(single, clear, strict=True))),
        Result(
            "start-encrypted-2",
            "s",
            f"{what}, two encrypted instances",
            "in the clear",
            list(zip(encrypted, clear, strict=True)),
        ),
    ]


def _start(environ: dict[str, str], name: str, instances: int, encrypted: bool) -> float:
    """Seconds from the request until the slowest instance's first line was written."""
    sagemaker, logs = client("sagemaker", environ), client("logs", environ)
    resources = {**JOB["ResourceConfig"], "InstanceCount": instances}
    given = {**JOB, "AlgorithmSpecification": FIRST_LINE, "ResourceConfig": resources}
    begun = time.time()
    sagemaker.create_training_job(TrainingJobName=name, EnableInterContainerTrafficEncryption=encrypted, **given)
    while (job := sagemaker.describe_training_job(TrainingJobName=name))["TrainingJobStatus"] == "InProgress":
        time.sleep(0.1)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    group = "/aws/sagemaker/TrainingJobs"
    streams = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{name}/")["logStreams"]
    return max(stream["firstEventTimestamp"] for stream in streams) / 1000 - begun


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), int(sys.argv[2]))
