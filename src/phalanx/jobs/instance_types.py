"""The catalogue of ml.* instance types: what an instance of a type may use."""

from __future__ import annotations

from dataclasses import dataclass

GIB = 1024**3


@dataclass(frozen=True, slots=True)
class InstanceType:
    """CPUs, bytes of memory and number of GPUs of an instance type."""

    vcpus: int
    memory: int
    gpus: int = 0


# Families whose sizes follow EC2's regular scheme: GiB of memory per vCPU, and the sizes that SageMaker trains on
# (botocore's TrainingInstanceType; m5d is not in it but has the same shape).
_REGULAR: tuple[tuple[str, float, str], ...] = (
    ("m4", 4, "xlarge 2xlarge 4xlarge 10xlarge 16xlarge"),
    ("m5", 4, "large xlarge 2xlarge 4xlarge 12xlarge 24xlarge"),
    ("m5d", 4, "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge"),
    ("m6i", 4, "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 32xlarge"),
    ("m7i", 4, "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 48xlarge"),
    ("m7i-flex", 4, "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge"),
    ("m8i", 4, "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 32xlarge 48xlarge 96xlarge"),
    ("m8i-flex", 4, "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge"),
    ("c4", 1.875, "xlarge 2xlarge 4xlarge"),
    ("c5", 2, "xlarge 2xlarge 4xlarge 9xlarge 18xlarge"),
    ("c5n", 2.625, "xlarge 2xlarge 4xlarge"),
    ("c6i", 2, "xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 32xlarge"),
    ("c7i", 2, "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 48xlarge"),
    ("c7i-flex", 2, "xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge"),
    ("c8i", 2, "xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 32xlarge 48xlarge 96xlarge"),
    ("c8i-flex", 2, "xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge"),
    ("r5", 8, "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge"),
    ("r5d", 8, "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge"),
    ("r6i", 8, "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 32xlarge"),
    ("r7i", 8, "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 48xlarge"),
    ("r8i", 8, "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 32xlarge 48xlarge 96xlarge"),
    ("r8i-flex", 8, "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge"),
)

# Types that do not: name, vCPUs, GiB of memory, GPUs.
_IRREGULAR: tuple[tuple[str, int, int, int], ...] = (
    ("t3.medium", 2, 4, 0),
    ("t3.large", 2, 8, 0),
    ("t3.xlarge", 4, 16, 0),
    ("t3.2xlarge", 8, 32, 0),
    ("c4.8xlarge", 36, 60, 0),
    ("c5n.9xlarge", 36, 96, 0),
    ("c5n.18xlarge", 72, 192, 0),
    ("g4dn.xlarge", 4, 16, 1),
    ("g4dn.2xlarge", 8, 32, 1),
    ("g4dn.4xlarge", 16, 64, 1),
    ("g4dn.8xlarge", 32, 128, 1),
    ("g4dn.12xlarge", 48, 192, 4),
    ("g4dn.16xlarge", 64, 256, 1),
    ("p2.xlarge", 4, 61, 1),
    ("p2.8xlarge", 32, 488, 8),
    ("p2.16xlarge", 64, 732, 16),
    ("p3.2xlarge", 8, 61, 1),
    ("p3.8xlarge", 32, 244, 4),
    ("p3.16xlarge", 64, 488, 8),
    ("p3dn.24xlarge", 96, 768, 8),
    ("p4d.24xlarge", 96, 1152, 8),
    ("p4de.24xlarge", 96, 1152, 8),
    ("p5.4xlarge", 16, 256, 1),
    ("p5.48xlarge", 192, 2048, 8),
    ("p5e.48xlarge", 192, 2048, 8),
    ("p5en.48xlarge", 192, 2048, 8),
    ("p6-b200.48xlarge", 192, 2048, 8),
)

# g5, g6 and g6e: the same sizes and GPUs, GiB of memory per vCPU.
_GPU_FAMILIES: tuple[tuple[str, int], ...] = (("g5", 4), ("g6", 4), ("g6e", 8))
_GPUS = {"xlarge": 1, "2xlarge": 1, "4xlarge": 1, "8xlarge": 1, "12xlarge": 4, "16xlarge": 1, "24xlarge": 4, "48xlarge": 8}


def _vcpus(size: str) -> int:
    if size == "large":
        return 2
    return 4 * int(size.removesuffix("xlarge") or "1")


def _catalogue() -> dict[str, InstanceType]:
    types = {
        f"ml.{family}.{size}": InstanceType(_vcpus(size), int(_vcpus(size) * per_vcpu * GIB))
        for family, per_vcpu, sizes in _REGULAR
        for size in sizes.split()
    }
    for family, per_vcpu in _GPU_FAMILIES:
        for size, gpus in _GPUS.items():
            types[f"ml.{family}.{size}"] = InstanceType(_vcpus(size), _vcpus(size) * per_vcpu * GIB, gpus)
    for name, vcpus, gib, gpus in _IRREGULAR:
        types[f"ml.{name}"] = InstanceType(vcpus, gib * GIB, gpus)
    return types


CATALOGUE = _catalogue()
"""Every instance type that Phalanx knows, by name. Trainium types and those whose data sheet is not public are not in it."""


def capacity(name: str) -> InstanceType:
    """What an instance of type `name` (`ml.m5.large`) may use. Raises KeyError for a type that is not in the catalogue."""
    return CATALOGUE[name]
