import pytest
from botocore.loaders import Loader

from phalanx.jobs.instance_types import CATALOGUE, GIB, InstanceType, capacity

# In SageMaker's enum, but with accelerators that are not GPUs, or without a public data sheet.
LEFT_OUT = ("ml.trn1.", "ml.trn1n.", "ml.trn2.", "ml.g7.", "ml.g7e.", "ml.p6-b300.", "ml.p6e-gb200.")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ml.m5.large", InstanceType(2, 8 * GIB)),
        ("ml.m4.10xlarge", InstanceType(40, 160 * GIB)),
        ("ml.c5.18xlarge", InstanceType(72, 144 * GIB)),
        ("ml.c4.xlarge", InstanceType(4, int(7.5 * GIB))),
        ("ml.c4.8xlarge", InstanceType(36, 60 * GIB)),
        ("ml.c5n.xlarge", InstanceType(4, int(10.5 * GIB))),
        ("ml.r8i.96xlarge", InstanceType(384, 3072 * GIB)),
        ("ml.t3.medium", InstanceType(2, 4 * GIB)),
        ("ml.t3.xlarge", InstanceType(4, 16 * GIB)),
        ("ml.g5.12xlarge", InstanceType(48, 192 * GIB, 4)),
        ("ml.p4d.24xlarge", InstanceType(96, 1152 * GIB, 8)),
    ],
)
def test_capacity(name, expected):
    assert capacity(name) == expected


@pytest.mark.parametrize("name", ["m5.large", "ml.m5.7xlarge", "ml.x9.large", ""])
def test_unknown_types_are_key_errors(name):
    with pytest.raises(KeyError):
        capacity(name)


def test_every_type_of_the_service_model_is_known_or_left_out_on_purpose():
    enum = set(Loader().load_service_model("sagemaker", "service-2")["shapes"]["TrainingInstanceType"]["enum"])
    unknown = {name for name in enum - CATALOGUE.keys() if not name.startswith(LEFT_OUT)}
    assert unknown == set()
    assert {name for name in CATALOGUE.keys() - enum if not name.startswith("ml.m5d.")} == set()
    assert not [name for name in CATALOGUE if name.startswith(LEFT_OUT)]


def test_only_accelerated_families_have_gpus():
    assert {name.split(".")[1][0] for name, each in CATALOGUE.items() if each.gpus} == {"g", "p"}
    assert all(each.gpus for name, each in CATALOGUE.items() if name.split(".")[1][0] in "gp")
