"""Clients that are too heavy for the project's own environment, each in one of its own that is kept over runs."""

import fcntl
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

AWS_CLI = "awscli==1.46.3"


def environment(*requirements):
    """A virtual environment with these pinned requirements, in the user's cache; made where it is not there whole."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "phalanx-tests"
    cache.mkdir(parents=True, exist_ok=True)
    python = f"py{sys.version_info.major}.{sys.version_info.minor}"
    place = cache / "-".join([*(requirement.replace("==", "-") for requirement in requirements), python])
    with (cache / f"{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "complete").exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
            subprocess.run([place / "bin/pip", "install", "-q", "--no-compile", *requirements], check=True, capture_output=True)
            (place / "complete").touch()
    return place


class AwsCli:
    """The AWS CLI with an endpoint and a key; it sees no other configuration."""

    def __init__(self, home, *, endpoint, region, access_key, secret):
        self.program = environment(AWS_CLI) / "bin/aws"
        self.environ = {
            "PATH": os.defpath,
            "HOME": str(home),
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_REGION": region,
            "AWS_DEFAULT_REGION": region,
            "AWS_ACCESS_KEY_ID": access_key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_PAGER": "",
            "AWS_MAX_ATTEMPTS": "1",
        }

    def run(self, command):
        """Run `aws …` as it would be typed; the finished process."""
        words = shlex.split(command)
        assert words[0] == "aws"
        return subprocess.run([self.program, *words[1:]], env=self.environ, capture_output=True, text=True)

    def __call__(self, command):
        """What a command that must succeed prints, as JSON; None where it prints nothing."""
        done = self.run(command)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        return json.loads(done.stdout) if done.stdout.strip() else None

    def refused(self, command):
        """What a command that must fail says."""
        done = self.run(command)
        assert done.returncode != 0, f"{command}\n{done.stdout}"
        return done.stderr.strip()
