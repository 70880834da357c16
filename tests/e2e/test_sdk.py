"""Programs of the SageMaker SDKs, unmodified, against a live service."""

import json
import os
import re
import subprocess
from pathlib import Path

from clients import environment
from e2e.conftest import ESP, UDP_500

SDK_V2 = "sagemaker==2.257.7"
GROUP = "/aws/sagemaker/TrainingJobs"
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def run(phalanx, program, requirement, home, *arguments):
    """Run a program in an environment that has an SDK, with what `phalanx env` prints; what it printed."""
    environ = {"PATH": os.defpath, "HOME": str(home), **phalanx.env}
    command = [environment(requirement) / "bin/python", Path(__file__).with_name(program), *arguments]
    done = subprocess.run(command, env=environ, cwd=home, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return COLOUR.sub("", done.stdout)


def written(phalanx, job):
    """Messages of a job's log streams, by host."""
    logs = phalanx.client("logs")
    found = {}
    for stream in logs.describe_log_streams(logGroupName=GROUP, logStreamNamePrefix=f"{job}/")["logStreams"]:
        name = stream["logStreamName"]
        events = logs.get_log_events(logGroupName=GROUP, logStreamName=name, startFromHead=True)["events"]
        found[name.split("/")[1].rpartition("-")[0]] = [event["message"] for event in events]
    return found


def test_sdk_v2_trains_streams_complete_logs_and_attaches(phalanx, tmp_path):
    network = phalanx.network(UDP_500, ESP)
    printed = run(phalanx, "sdk_v2.py", SDK_V2, tmp_path, network["Subnets"][0], network["SecurityGroupIds"][0])
    facts = json.loads(next(line for line in printed.splitlines() if line.startswith("FACTS")).removeprefix("FACTS "))
    assert facts["status"] == "Completed"
    assert facts["model"] == facts["attached_model"] == f"s3://test-bucket/models/{facts['job']}/output/model.tar.gz"
    assert facts["attached"] == facts["job"]
    assert facts["attached_encrypts"] is True
    assert facts["attached_subnets"] == network["Subnets"]
    streams = written(phalanx, facts["job"])
    assert set(streams) == {"algo-1", "algo-2"}
    fitted = printed.partition("FACTS")[0]
    for messages in streams.values():
        assert messages
        for message in messages:
            assert message in fitted
    assert phalanx.evidence(facts["job"])["pairs"][0]["algorithm"] == "AES_GCM_16"
