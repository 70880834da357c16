"""InputDataConfig and InstanceGroups: what fits together, and what SageMaker refuses."""

import pytest

from phalanx.store.jobs import TrainingJob
from services.test_sagemaker import refused, request, world

__all__ = ["world"]


def channel(name="train", mode=None, **members):
    source = {"S3DataType": "S3Prefix", "S3Uri": "s3://bucket/data/", **members.pop("source", {})}
    return {
        "ChannelName": name,
        "DataSource": {"S3DataSource": source},
        **({"InputMode": mode} if mode else {}),
        **members,
    }


AUGMENTED = {"S3DataType": "AugmentedManifestFile", "AttributeNames": ["image-ref", "label"]}
GROUPS = {
    "VolumeSizeInGB": 1,
    "InstanceGroups": [
        {"InstanceGroupName": "a", "InstanceType": "ml.m5.large", "InstanceCount": 1},
        {"InstanceGroupName": "b", "InstanceType": "ml.c5.xlarge", "InstanceCount": 2},
    ],
}


@pytest.mark.parametrize(
    "members",
    [
        {"InputDataConfig": [channel(mode="Pipe", RecordWrapperType="RecordIO", ShuffleConfig={"Seed": -1})]},
        {"InputDataConfig": [channel(mode="Pipe", source=AUGMENTED, CompressionType="Gzip")]},
        {"InputDataConfig": [channel(mode="FastFile", source={"S3DataDistributionType": "ShardedByS3Key"})]},
        {"InputDataConfig": [channel(ShuffleConfig={"Seed": 1}), channel("train_x", "Pipe")]},
        {"ResourceConfig": GROUPS, "InputDataConfig": [channel(source={"InstanceGroupNames": ["b"]})]},
        {"ResourceConfig": {**GROUPS, "InstanceGroups": []} | {"InstanceType": "ml.m5.large", "InstanceCount": 1}},
    ],
)
def test_what_fits_is_taken_and_described_as_it_was_given(world, members):
    world.call("CreateTrainingJob", **request(**members))
    job = world.call("DescribeTrainingJob", TrainingJobName="job-1")
    assert job["ResourceConfig"] == members.get("ResourceConfig", job["ResourceConfig"])
    for given, shown in zip(members.get("InputDataConfig", []), job["InputDataConfig"], strict=False):
        assert {name: shown[name] for name in given if name != "DataSource"} == {
            name: value for name, value in given.items() if name != "DataSource"
        }
        assert given["DataSource"]["S3DataSource"].items() <= shown["DataSource"]["S3DataSource"].items()


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"InputDataConfig": [channel(source=AUGMENTED)]}, "can only be used if the input mode is Pipe"),
        ({"InputDataConfig": [channel(mode="FastFile", source=AUGMENTED)]}, "can only be used if the input mode is Pipe"),
        (
            {"InputDataConfig": [channel(mode="Pipe", source={"S3DataType": "AugmentedManifestFile"})]},
            "AttributeNames must be given",
        ),
        ({"InputDataConfig": [channel(mode="Pipe", source={"AttributeNames": ["a"]})]}, "only be given with AugmentedManifest"),
        ({"InputDataConfig": [channel(mode="FastFile", source={"S3DataType": "ManifestFile"})]}, "S3DataType of S3Prefix only"),
        ({"InputDataConfig": [channel(mode="FastFile", CompressionType="Gzip")]}, "cannot be used in FastFile mode"),
        ({"InputDataConfig": [channel(mode="FastFile", ShuffleConfig={"Seed": 1})]}, "its files have no order"),
        ({"InputDataConfig": [channel(RecordWrapperType="RecordIO")]}, "can only be used in Pipe mode"),
        ({"InputDataConfig": [channel(mode="Pipe"), channel("train_12")]}, "has the name of a pipe of the channel train"),
        ({"InputDataConfig": [channel("..")]}, "is no name of a directory"),
        (
            {"InputDataConfig": [channel(source={"InstanceGroupNames": ["a"]})]},
            "given with ResourceConfig.InstanceGroups",
        ),
        (
            {"ResourceConfig": GROUPS, "InputDataConfig": [channel(source={"InstanceGroupNames": ["c"]})]},
            "has c, which is no instance group",
        ),
        ({"ResourceConfig": {**GROUPS, "InstanceType": "ml.m5.large"}}, "either InstanceGroups or InstanceType"),
        ({"ResourceConfig": {**GROUPS, "InstanceGroups": GROUPS["InstanceGroups"][:1] * 2}}, "must have names that differ"),
        (
            {"ResourceConfig": {**GROUPS, "InstanceGroups": [{**GROUPS["InstanceGroups"][0], "InstanceCount": 0}]}},
            "Value '0' at 'resourceConfig.instanceCount'",
        ),
    ],
)
def test_what_does_not_fit_is_refused(world, members, text):
    refused(world, "ValidationException", text, request(**members))


def test_groups_count_together(world):
    world.call("CreateTrainingJob", **request(ResourceConfig=GROUPS))
    with world.database.read() as session:
        assert session.get_one(TrainingJob, "job-1").instances == 3
