"""The configuration that a container runtime is given, by hand: what it must never hold, and what decides what runs."""

import pytest

from phalanx.runtime import oci
from phalanx.runtime.images import ImageRoot
from phalanx.runtime.model import ContainerSpec, DeviceNode, Edits, IdRange, Limits

IMAGE = ImageRoot((), ("python3",), ("serve.py",), {"PATH": "/opt/bin", "LEVEL": "image"}, "/work")
GPU = DeviceNode("/dev/gpu0", "/dev/real0", "c", 195, 0, "rw")


def spec(command=None, arguments=("train",), edits=Edits(), **environment):
    return ContainerSpec(
        id="c",
        image="image",
        command=command,
        arguments=arguments,
        environment=environment,
        netns="/run/netns/c",
        hostname="algo-1",
        hosts={},
        opt_ml="/opt/ml",
        limits=Limits(1.5, 1 << 30, pids=100),
        mounts={"/opt/ml/input/data/train": "/somewhere"},
        edits=edits,
    )


@pytest.fixture
def config():
    def made(**changed):
        ids = IdRange(200_000, 65_536)
        return oci.config(spec(**changed), IMAGE, init="/usr/lib/init", stage="/stage", cgroup="/phalanx/c", ids=ids)

    return made


def test_no_capability_is_held_and_none_can_be_gained(config):
    process = config()["process"]
    assert process["capabilities"] == {name: [] for name in ("bounding", "effective", "inheritable", "permitted", "ambient")}
    assert process["noNewPrivileges"] is True


def test_nothing_of_the_host_is_seen_and_no_network_namespace_is_chosen(config):
    linux = config()["linux"]
    assert {each["type"] for each in linux["namespaces"]} == {"user", "pid", "ipc", "uts", "mount", "cgroup"}
    assert linux["uidMappings"] == linux["gidMappings"] == [{"containerID": 0, "hostID": 200_000, "size": 65_536}]
    assert {"/proc/kcore", "/proc/keys", "/sys/kernel", "/sys/module", "/sys/fs/bpf"} <= set(linux["maskedPaths"])
    assert {"/proc/sys", "/proc/sysrq-trigger"} <= set(linux["readonlyPaths"])
    assert linux["seccomp"]["defaultAction"] == "SCMP_ACT_ERRNO"


def test_limits_are_in_force(config):
    resources = config()["linux"]["resources"]
    assert resources["cpu"] == {"period": 100_000, "quota": 150_000}
    assert resources["memory"] == {"limit": 1 << 30, "swap": 1 << 30}
    assert resources["pids"] == {"limit": 100}


def test_devices_are_denied_but_for_those_that_were_given(config):
    assert config()["linux"]["resources"]["devices"] == [{"allow": False, "access": "rwm"}]
    given = config(edits=Edits(devices=(GPU,), environment=("GPUS=0",)))
    assert given["linux"]["resources"]["devices"][1:] == [
        {"allow": True, "type": "c", "major": 195, "minor": 0, "access": "rw"}
    ]
    (mount,) = (each for each in given["mounts"] if each["destination"] == "/dev/gpu0")
    assert (mount["source"], "nosuid" in mount["options"]) == ("/dev/real0", True)
    assert given["process"]["env"][-1] == "GPUS=0"


def test_mounts_are_below_the_stage_and_the_hosts_are_read_only(config):
    mounts = {each["destination"]: each for each in config()["mounts"]}
    assert mounts["/opt/ml"]["source"] == "/stage/opt_ml"
    assert mounts["/opt/ml/input/data/train"]["source"] == "/stage/mount0"
    for path in ("/sys", "/sys/fs/cgroup", "/dev/init"):
        assert "ro" in mounts[path]["options"], path
    assert {path for path, each in mounts.items() if each["type"] == "bind" and not each["source"].startswith("/stage")} == {
        "/dev/init"
    }


@pytest.mark.parametrize(
    ("command", "arguments", "runs"),
    [
        (None, ("train",), ("python3", "train")),
        (None, (), ("python3", "serve.py")),
        (("bash",), ("-c", "true"), ("bash", "-c", "true")),
        (("bash",), (), ("bash",)),
    ],
)
def test_what_runs_is_what_docker_would_run(config, command, arguments, runs):
    assert oci.command(spec(command, arguments), IMAGE) == runs
    assert config(command=command, arguments=arguments)["process"]["args"] == ["/dev/init", "--", *runs]


def test_a_jobs_environment_goes_before_the_images_and_that_before_the_defaults():
    assert oci.environment(spec(LEVEL="job"), IMAGE) == {
        "PATH": "/opt/bin",
        "HOME": "/root",
        "HOSTNAME": "algo-1",
        "LEVEL": "job",
    }


def test_hosts_are_found_by_name():
    assert oci.hosts({"algo-1": "10.0.0.1", "algo-2": "10.0.0.2"}) == (
        "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n10.0.0.1 algo-1\n10.0.0.2 algo-2\n"
    )
