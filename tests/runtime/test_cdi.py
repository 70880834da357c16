"""Specs of GPUs as a vendor's toolkit writes them, here of devices that every host has."""

import json

import pytest

from phalanx.runtime import cdi
from phalanx.runtime.model import DeviceNode

SPEC = """
cdiVersion: 0.5.0
kind: nvidia.com/gpu
containerEdits:
  env: [NVIDIA_VISIBLE_DEVICES=void]
  deviceNodes: [{path: /dev/nvidiactl, hostPath: /dev/zero}]
  hooks: [{hookName: createContainer, path: /usr/bin/nvidia-ctk, args: [nvidia-ctk, hook, update-ldcache]}]
  mounts: [{hostPath: /usr/lib/libcuda.so.1, containerPath: /usr/lib/libcuda.so.1, options: [ro, bind]}]
devices:
- {name: "1", containerEdits: {deviceNodes: [{path: /dev/nvidia1, hostPath: /dev/null, permissions: rw}]}}
- {name: "0", containerEdits: {deviceNodes: [{path: /dev/full}]}}
- {name: GPU-0d5c, containerEdits: {deviceNodes: [{path: /dev/full}]}}
- {name: all, containerEdits: {deviceNodes: [{path: /dev/full}]}}
"""


def test_a_gpu_counts_once_and_brings_what_all_share(tmp_path):
    (tmp_path / "nvidia.yaml").write_text(SPEC)
    (tmp_path / "net.json").write_text(json.dumps({"cdiVersion": "0.5.0", "kind": "vendor.com/net", "devices": []}))
    (tmp_path / "notes.txt").write_text("no spec")
    first, second = cdi.gpus(f"/nowhere:{tmp_path}")
    assert (first.name, second.name) == ("nvidia.com/gpu=0", "nvidia.com/gpu=1")
    both = cdi.merged([first, second])
    assert both.environment == ("NVIDIA_VISIBLE_DEVICES=void",)
    assert both.devices == (
        DeviceNode("/dev/nvidiactl", "/dev/zero", "c", 1, 5, "rwm"),
        DeviceNode("/dev/full", "/dev/full", "c", 1, 7, "rwm"),
        DeviceNode("/dev/nvidia1", "/dev/null", "c", 1, 3, "rw"),
    )
    assert both.mounts == (("/usr/lib/libcuda.so.1", "/usr/lib/libcuda.so.1", ("ro", "bind")),)
    assert [(name, json.loads(content)["path"]) for name, content in both.hooks] == [("createContainer", "/usr/bin/nvidia-ctk")]


def test_without_specs_there_are_none(tmp_path):
    assert cdi.gpus(str(tmp_path)) == ()


@pytest.mark.parametrize(
    "spec",
    ["{", "[]", "kind: nvidia.com/gpu", SPEC.replace("/dev/null", "/dev/no-such"), SPEC.replace("createContainer", "never")],
)
def test_a_spec_that_cannot_be_followed_is_named(tmp_path, spec):
    (tmp_path / "nvidia.yaml").write_text(spec)
    with pytest.raises(cdi.CdiError, match=r"nvidia\.yaml is no CDI spec"):
        cdi.gpus(str(tmp_path))
