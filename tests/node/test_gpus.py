"""A GPU has one instance at a time, of whatever service, for as long as that instance's run directory is there."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest

from node.test_protocol import spec
from phalanx.node import gpus
from phalanx.node.errors import InstanceError
from phalanx.node.instance import Instance
from phalanx.runtime.cdi import Gpu
from phalanx.runtime.model import ContainerStatus, DeviceNode, Edits, Limits

GPUS = tuple(Gpu(f"nvidia.com/gpu={number}", Edits()) for number in range(3))


def instance(tmp_path, service, name):
    directory = tmp_path / service / name
    directory.mkdir(parents=True)
    return directory


def test_a_gpu_is_taken_until_its_instance_is_gone(tmp_path):
    first, second, third = (instance(tmp_path, *each) for each in (("a", "i-1"), ("a", "i-2"), ("b", "i-3")))
    assert gpus.take(GPUS, first, 1) == GPUS[:1]
    assert gpus.take(GPUS, second, 1) == GPUS[1:2]
    assert gpus.take(GPUS, first, 1) == GPUS[:1]
    with pytest.raises(gpus.NoGpu, match="1 of this host's 3 GPUs are free, and 2 are needed"):
        gpus.take(GPUS, third, 2)
    shutil.rmtree(first)
    assert gpus.take(GPUS, third, 2) == (GPUS[0], GPUS[2])


def test_a_gpu_that_vanished_is_missed(tmp_path):
    one = instance(tmp_path, "a", "i-1")
    gpus.take(GPUS, one, 3)
    with pytest.raises(gpus.NoGpu, match="not all there"):
        gpus.take(GPUS[:2], one, 3)


class Started:
    """Containers that only remember what they were told to start."""

    def __init__(self):
        self.specs = []

    def status(self, _id):
        return ContainerStatus("absent")

    def owner(self):
        return 0, 0

    def start(self, spec):
        self.specs.append(spec)


def test_an_instance_of_a_gpu_type_starts_with_its_gpu_and_others_without(tmp_path):
    edits = Edits(environment=("GPU=0",), devices=(DeviceNode("/dev/nvidia0", "/dev/full", "c", 1, 7, "rw"),))
    shared = SimpleNamespace(
        names=SimpleNamespace(
            instance_run_dir=lambda id: tmp_path / "service" / id,
            instance_dir=lambda id: tmp_path / "disk" / id,
            instance_namespace=lambda id: f"n-{id}",
        ),
        containers=Started(),
        vpcs=SimpleNamespace(finds_names=lambda _spec: False),
        gpus=(Gpu("nvidia.com/gpu=0", edits),),
    )

    def run(job, count):
        wanted = replace(spec(job=job, encrypted=False), limits=Limits(1, 2**30, gpus=count))
        (tmp_path / "service" / wanted.id).mkdir(parents=True)
        instance = Instance(wanted, shared)
        instance._image = "image"
        instance.run()

    run("plain", 0)
    run("holds", 1)
    with pytest.raises(InstanceError, match=r"CapacityError: .* 0 of this host's 1 GPUs are free, and 1 are needed"):
        run("late", 1)
    assert [started.edits for started in shared.containers.specs] == [Edits(), edits]
