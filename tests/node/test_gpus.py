"""A GPU has one instance at a time, of whatever service, for as long as that instance's run directory is there."""

import shutil

import pytest

from phalanx.node import gpus
from phalanx.runtime.cdi import Gpu
from phalanx.runtime.model import Edits

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
