"""InputDataConfig: what the members of a channel may be together, which the service model does not say."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from phalanx.jobs import instance_groups
from phalanx.services.sagemaker.errors import validation
from phalanx.store.base import Json


def check(request: Json) -> None:
    """Raise ValidationException where the channels of an accepted request do not fit each other, or their modes."""
    channels = request.get("InputDataConfig", [])
    _check_names(request, channels)
    groups = [group.name for group in instance_groups.groups(request["ResourceConfig"])]
    for channel in channels:
        _check_mode(mode(request, channel), channel)
        _check_groups(request, channel, groups)


def mode(request: Json, channel: Json) -> str:
    """The input mode of a channel: its own, or the algorithm's."""
    return str(channel.get("InputMode", request["AlgorithmSpecification"]["TrainingInputMode"]))


def _check_names(request: Json, channels: Sequence[Json]) -> None:
    names = [channel["ChannelName"] for channel in channels]
    if repeated := _repeated(names):
        raise validation(f"Channel names must be unique. InputDataConfig has more than one channel named {repeated}.")
    for channel in channels:
        if mode(request, channel) == "Pipe":
            pipe = re.compile(re.escape(channel["ChannelName"]) + r"_[0-9]+")
            clash = next(filter(pipe.fullmatch, names), None)
            if clash:
                raise validation(
                    f"The channel {clash} has the name of a pipe of the channel {channel['ChannelName']}. Rename it."
                )
        elif channel["ChannelName"] in (".", ".."):
            raise validation(f"A channel cannot be named {channel['ChannelName']}: that is no name of a directory.")


def _check_mode(input_mode: str, channel: Json) -> None:
    name, source = channel["ChannelName"], channel["DataSource"]["S3DataSource"]
    kind, attributes = source["S3DataType"], source.get("AttributeNames", [])
    if kind == "AugmentedManifestFile":
        if input_mode != "Pipe":
            raise validation(f"AugmentedManifestFile can only be used if the input mode is Pipe. Channel: {name}")
        if not attributes:
            raise validation(f"AttributeNames must be given with AugmentedManifestFile. Channel: {name}")
    elif attributes:
        raise validation(f"AttributeNames can only be given with AugmentedManifestFile. Channel: {name}")
    if input_mode == "FastFile":
        if kind != "S3Prefix":
            raise validation(f"FastFile mode takes an S3DataType of S3Prefix only. Channel: {name}")
        if channel["CompressionType"] != "None":
            raise validation(f"CompressionType cannot be used in FastFile mode. Channel: {name}")
        if "ShuffleConfig" in channel:
            raise validation(f"ShuffleConfig cannot be used in FastFile mode: its files have no order. Channel: {name}")
    if input_mode != "Pipe" and channel["RecordWrapperType"] != "None":
        raise validation(f"RecordWrapperType can only be used in Pipe mode; leave it out or give None. Channel: {name}")


def _check_groups(request: Json, channel: Json, groups: Sequence[str]) -> None:
    names = channel["DataSource"]["S3DataSource"].get("InstanceGroupNames", [])
    if names and not request["ResourceConfig"].get("InstanceGroups"):
        raise validation("InstanceGroupNames can only be given with ResourceConfig.InstanceGroups.")
    for name in names:
        if name not in groups:
            raise validation(
                f"InstanceGroupNames of the channel {channel['ChannelName']} has {name}, which is no instance group."
            )


def _repeated(names: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
