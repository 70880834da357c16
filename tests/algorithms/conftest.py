"""Runs the program of a training image as its container does, without the container: the image's root, with network and mount
namespaces, /opt/ml and /etc/hosts of its own."""

import io
import json
import os
import shutil
import struct
import subprocess
import tarfile
import uuid
from pathlib import Path

import pytest

from phalanx.algorithms import catalog
from phalanx.cli.settings import IMAGES
from phalanx.runtime.builder import Builder
from phalanx.runtime.images import Images

NETWORK = "10.213.0."
ENTER = """
mount -t tmpfs tmpfs "$1" && mkdir "$1/files" "$1/work" "$1/root" &&
mount -t overlay overlay -o "lowerdir=$2,upperdir=$1/files,workdir=$1/work" "$1/root" && cd "$1/root" &&
mount --rbind /proc proc && mount --rbind /dev dev && mkdir -p opt/ml && mount --bind "$3" opt/ml &&
touch etc/hosts && mount --bind "$4" etc/hosts && shift 4 && exec chroot . "$@"
"""


class Root:
    """The file system of a built-in image, as root of processes."""

    def __init__(self, store, algorithm):
        image = store.layers(Builder(store).build(f"phalanx/{algorithm.name}", algorithm.contexts, print))
        self.layers = ":".join(map(str, image.layers))
        self.environment = {"PATH": os.defpath, "OMP_NUM_THREADS": "1", **image.env}
        self.program = [*image.entrypoint, *image.cmd]

    def command(self, place, opt_ml, hosts, *command):
        """A command line that runs `command` in the image; `place` is an empty directory."""
        place.mkdir(exist_ok=True)
        inside = ["unshare", "--mount", "--propagation", "private", "sh", "-c", ENTER, "sh", place, self.layers, opt_ml, hosts]
        return [*map(str, inside), *command]

    def python(self, place, code, given=None):
        """What Python code in the image prints as JSON; it finds `given` as such on its input, and `place` at /opt/ml."""
        place.mkdir(exist_ok=True)
        done = subprocess.run(
            self.command(place.with_name(f"{place.name}.root"), place, "/etc/hosts", "python3", "-W", "ignore", "-c", code),
            input=json.dumps(given),
            capture_output=True,
            text=True,
            env=self.environment,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


class Cluster:
    """Hosts algo-1 … algo-N: network namespaces on one bridge, with eth0; each with an /opt/ml."""

    def __init__(self, image, root, count):
        self.image = image
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
        """Make a host's /opt/ml; `channels` maps names to (content type, {file name: text or bytes})."""
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
                (folder / file).write_bytes(content.encode() if isinstance(content, str) else content)
        (config / "hyperparameters.json").write_text(json.dumps(hyperparameters))
        (config / "inputdataconfig.json").write_text(json.dumps(listed))
        (config / "resourceconfig.json").write_text(
            json.dumps({"current_host": host, "hosts": sorted(self.hosts), "network_interface_name": "eth0"})
        )
        return root

    def start(self, host):
        """Run the program on a host; its output goes to a file beside its /opt/ml."""
        command = self.image.command(self.root / f"{host}.root", self.root / host, self.etc_hosts, *self.image.program)
        process = subprocess.Popen(
            self.inside(host, *command),
            stdout=(self.root / f"{host}.out").open("w"),
            stderr=subprocess.STDOUT,
            env=self.image.environment,
        )
        self.running.append(process)
        return process

    def run(self, hyperparameters, channels):
        """Train on all hosts, `channels(i)` on host i; the exit codes."""
        for i, host in enumerate(self.hosts):
            self.prepare(host, hyperparameters, channels(i))
        return [process.wait() for process in [self.start(host) for host in self.hosts]]

    def run_script(self, script, channels, rounds="4"):
        """Run a script as SDK v2 sends it, with the hyperparameter `rounds`, on all hosts; the exit codes."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w:gz") as tar:
            entry = tarfile.TarInfo("boost.py")
            entry.size = len(script)
            tar.addfile(entry, io.BytesIO(script.encode()))
        place = "/opt/ml/input/source/sourcedir.tar.gz"
        given = {"sagemaker_program": '"boost.py"', "sagemaker_submit_directory": json.dumps(place), "rounds": rounds}
        given |= {"sagemaker_region": '"us-west-2"', "sagemaker_container_log_level": "20", "sagemaker_job_name": '"job"'}
        for i, host in enumerate(self.hosts):
            root = self.prepare(host, given, channels(i))
            (root / "input/source").mkdir(exist_ok=True)
            (root / "input/source/sourcedir.tar.gz").write_bytes(archive.getvalue())
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
        return self.root / host / "model"

    def python(self, code, given=None, host="algo-1"):
        """What Python code in the image prints as JSON, with a host's /opt/ml."""
        return self.image.python(self.root / host, code, given)


def recordio(table, sparse=False, first=0):
    """Rows of label and features as recordio-protobuf; `sparse` leaves out features that are 0, the first is number `first`."""
    frames = []
    for label, *features in table:
        kept = [(i, value) for i, value in enumerate(features) if value or not sparse]
        tensor = _field(1, struct.pack(f"<{len(kept)}f", *(value for _, value in kept)))
        if sparse:
            tensor += _field(2, b"".join(_varint(first + i) for i, _ in kept)) + _field(3, _varint(len(features)))
        record = b"".join(
            _field(number, _field(1, b"values") + _field(2, _field(2, content)))
            for number, content in ((1, tensor), (2, _field(1, struct.pack("<f", label))))
        )
        frames.append(struct.pack("<II", 0xCED7230A, len(record)) + record + bytes(-len(record) % 4))
    return b"".join(frames)


def _field(number, content):
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(number):
    low, rest = number & 127, number >> 7
    return bytes([low | 128]) + _varint(rest) if rest else bytes([low])


@pytest.fixture(scope="session")
def roots():
    """Roots of built-in images, by the algorithm's name."""
    store = Images(IMAGES, Path(f"/run/phalanx/images-tests-{os.getpid()}"))
    made = {}

    def root(name):
        if name not in made:
            made[name] = Root(store, next(algorithm for algorithm in catalog.ALGORITHMS if algorithm.name == name))
        return made[name]

    yield root
    shutil.rmtree(f"/run/phalanx/images-tests-{os.getpid()}", ignore_errors=True)


@pytest.fixture
def cluster(roots, algorithm, tmp_path):
    """Makes clusters of hosts that run the module's `algorithm`; one per call, in a directory of its own."""
    made = []

    def make(count):
        root = tmp_path / str(len(made))
        root.mkdir()
        made.append(Cluster(roots(algorithm), root, count).__enter__())
        return made[-1]

    yield make
    for each in made:
        each.__exit__()
