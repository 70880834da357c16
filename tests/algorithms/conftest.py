"""Runs the program of a training image as it runs in its container, without the container: network and mount namespaces,
/opt/ml and /etc/hosts of its own, the image's requirements in an environment of its own."""

import fcntl
import hashlib
import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from phalanx.algorithms import catalog

NETWORK = "10.213.0."


def _environment(requirements):
    """An environment with the image's requirements, kept over runs in the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "phalanx-tests"
    cache.mkdir(parents=True, exist_ok=True)
    key = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()[:16]
    place = cache / f"xgboost-{key}"
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "complete").exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
            subprocess.run([place / "bin/pip", "install", "-q", "-r", str(requirements)], check=True, capture_output=True)
            (place / "complete").touch()
    return place


class Cluster:
    """Hosts algo-1 … algo-N: network namespaces on one bridge, with eth0; each with an /opt/ml."""

    def __init__(self, environment, program, root, count):
        self.environment = environment
        self.program = program
        self.root = root
        self.hosts = [f"algo-{i + 1}" for i in range(count)]
        self.id = f"phxt{uuid.uuid4().hex[:8]}"
        self.holders = {}
        self.running = []
        self.etc_hosts = root / "hosts"
        self.etc_hosts.write_text(
            "127.0.0.1 localhost\n" + "".join(f"{NETWORK}{i + 1} {host}\n" for i, host in enumerate(self.hosts))
        )

    def __enter__(self):
        # Namespaces without names: they are gone with the processes that hold them.
        switch = self._hold("switch")
        subprocess.run(self._in(switch, "ip", "link", "add", "br0", "type", "bridge"), check=True)
        subprocess.run(self._in(switch, "ip", "link", "set", "br0", "up"), check=True)
        for i, host in enumerate(self.hosts):
            holder = self._hold(host)
            for command in (
                self._in(switch, "ip", "link", "add", f"p{i}", "type", "veth", "peer", "name", "eth0", "netns", str(holder)),
                self._in(switch, "ip", "link", "set", f"p{i}", "master", "br0", "up"),
                self._in(holder, "ip", "addr", "add", f"{NETWORK}{i + 1}/24", "dev", "eth0"),
                self._in(holder, "ip", "link", "set", "eth0", "up"),
                self._in(holder, "ip", "link", "set", "lo", "up"),
            ):
                subprocess.run(command, check=True)
        return self

    def __exit__(self, *_):
        for process in [*self.running, *self.holders.values()]:
            process.kill()
            process.wait()

    def _hold(self, name):
        holder = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec sleep infinity"], stdout=subprocess.PIPE)
        self.holders[name] = holder
        holder.stdout.readline()
        holder.stdout.close()
        return holder.pid

    @staticmethod
    def _in(holder, *command):
        return ["nsenter", f"--net=/proc/{holder}/ns/net", *command]

    def inside(self, host, *command):
        """A command line in the network namespace of a host."""
        return self._in(self.holders[host].pid, *command)

    def prepare(self, host, hyperparameters, channels):
        """Make a host's /opt/ml; `channels` maps names to (content type, {file name: content})."""
        root = self.root / host
        config = root / "input/config"
        for folder in (config, root / "model", root / "output/data"):
            folder.mkdir(parents=True, exist_ok=True)
        listed = {}
        for name, (content_type, files) in channels.items():
            listed[name] = {"TrainingInputMode": "File", "S3DistributionType": "ShardedByS3Key", "RecordWrapperType": "None"}
            if content_type:
                listed[name]["ContentType"] = content_type
            folder = root / "input/data" / name
            folder.mkdir(parents=True, exist_ok=True)
            for file, content in files.items():
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                (folder / file).write_text(content)
        (config / "hyperparameters.json").write_text(json.dumps(hyperparameters))
        (config / "inputdataconfig.json").write_text(json.dumps(listed))
        (config / "resourceconfig.json").write_text(
            json.dumps({"current_host": host, "hosts": sorted(self.hosts), "network_interface_name": "eth0"})
        )
        return root

    def start(self, host):
        """Run the program on a host; its output goes to a file beside its /opt/ml."""
        mounts = (
            'mount -t tmpfs tmpfs /opt && mkdir /opt/ml /opt/program && mount --bind "$1" /opt/ml &&'
            ' mount --bind "$2" /opt/program && mount --bind "$3" /etc/hosts && exec "$4" /opt/program/train.py train'
        )
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", mounts, "sh"]
        paths = [self.root / host, self.program, self.etc_hosts, self.environment / "bin/python"]
        process = subprocess.Popen(
            self.inside(host, *command, *map(str, paths)),
            stdout=(self.root / f"{host}.out").open("w"),
            stderr=subprocess.STDOUT,
            env={"PATH": os.defpath, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        )
        self.running.append(process)
        return process

    def run(self, hyperparameters, channels):
        """Train on all hosts, `channels(i)` on host i; the exit codes."""
        for i, host in enumerate(self.hosts):
            self.prepare(host, hyperparameters, channels(i))
        return [process.wait() for process in [self.start(host) for host in self.hosts]]

    def output(self, host="algo-1"):
        """What a host wrote."""
        return (self.root / f"{host}.out").read_text()

    def failure(self, host="algo-1"):
        """A host's /opt/ml/output/failure."""
        path = self.root / host / "output/failure"
        return path.read_text() if path.exists() else None

    def model(self, host="algo-1"):
        """Where a host's model is."""
        return self.root / host / "model/xgboost-model"

    def predict(self, model, rows):
        """What a model says of rows, by XGBoost itself."""
        program = (
            "import json, sys, numpy as np, xgboost as x; b = x.Booster(); b.load_model(sys.argv[1]);"
            "print(json.dumps([b.num_boosted_rounds(), b.predict(x.DMatrix(np.array(json.load(sys.stdin)))).tolist()]))"
        )
        done = subprocess.run(
            [self.environment / "bin/python", "-W", "ignore", "-c", program, str(model)],
            input=json.dumps(rows),
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(done.stdout)


@pytest.fixture(scope="session")
def program():
    return catalog.find("sagemaker-xgboost").context


@pytest.fixture(scope="session")
def environment(program):
    return _environment(program / "requirements.txt")


@pytest.fixture
def cluster(environment, program, tmp_path):
    """Makes clusters of hosts; one per call, in a directory of its own."""
    made = []

    def make(count):
        root = tmp_path / str(len(made))
        root.mkdir()
        made.append(Cluster(environment, program, root, count).__enter__())
        return made[-1]

    yield make
    for each in made:
        each.__exit__()
