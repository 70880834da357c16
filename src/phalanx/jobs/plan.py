"""From a stored request to instances: addresses, groups, keys and the specs that the fleet is given."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from uuid import uuid4

from sqlalchemy import select
from sqlalchemy.orm import Session

from phalanx.data.model import Channel, Checkpoints, DataKey, Group, ObjectStore, Output, Workspace
from phalanx.ipsec.model import Profile
from phalanx.ipsec.pki import issue_mesh
from phalanx.jobs import backends, instance_groups, instance_types, interfaces
from phalanx.jobs import source as script
from phalanx.network.model import S3_ADDRESS, S3_PORT, Eni, Rule, SecurityGroup
from phalanx.node.messages import InstanceSpec
from phalanx.runtime.model import Limits
from phalanx.store.base import Json
from phalanx.store.jobs import Tag, TrainingJob
from phalanx.store.network import NetworkInterface, new_id

DEFAULT_VOLUME = 30
"""GiB of a volume where a job names no VolumeSizeInGB; what SageMaker's SDKs ask for by themselves."""

PLATFORM_NETWORK = "10.215.0."
"""First three octets of the network of a job without VpcConfig: a VPC of its own, so that all jobs can use the same."""


PLACEMENT, SPREAD, PACK = "phalanx:placement", "spread", "pack"
"""The tag by which a job says whether each of its instances shall have a host of its own, and what it may say."""


@dataclass(frozen=True, slots=True)
class Placement:
    """One instance's place: what the store remembers of it while the job lives."""

    id: str
    host: str
    eni: Eni
    zone: str | None = None
    """The availability zone of its subnet."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The instances of a job and the VPC they are in. Holds no secret."""

    vpc_id: str
    placements: tuple[Placement, ...]
    ran: bool = False
    """Whether containers may have been started."""

    @property
    def ids(self) -> tuple[str, ...]:
        """Instance ids in the order of the hosts."""
        return tuple(placement.id for placement in self.placements)

    @property
    def hosts(self) -> dict[str, str]:
        """Address of each host, algo-1 first."""
        return {placement.host: placement.eni.address for placement in self.placements}

    def to_json(self) -> Json:
        """As the store keeps it."""
        return {
            "vpc": self.vpc_id,
            "ran": self.ran,
            "instances": [
                {
                    "id": p.id,
                    "host": p.host,
                    "eni": p.eni.id,
                    "address": p.eni.address,
                    "groups": list(p.eni.groups),
                    "zone": p.zone,
                }
                for p in self.placements
            ],
        }

    @classmethod
    def from_json(cls, plan: Json) -> Plan:
        """The plan that `to_json` wrote."""
        return cls(
            plan["vpc"],
            tuple(
                Placement(item["id"], item["host"], Eni(item["eni"], item["address"], tuple(item["groups"])), item["zone"])
                for item in plan["instances"]
            ),
            plan["ran"],
        )


def make(session: Session, job: TrainingJob, zones: Sequence[str] | None = None) -> Plan:
    """Give each instance an id and an ENI, in subnets that lie in the availability zones `zones` (None: all).

    Raises interfaces.NoAddress where these subnets are full, interfaces.NoZone where there is none.
    """
    hosts = [f"algo-{number}" for number in range(1, job.instances + 1)]
    config = job.request.get("VpcConfig")
    if config:
        vpc_id = interfaces.check_vpc_config(session, config["Subnets"], config["SecurityGroupIds"])
        subnets = interfaces.within(session, config["Subnets"], zones)
        allocated = interfaces.allocate(session, job.name, hosts, list(subnets), config["SecurityGroupIds"])
        enis = [Eni(row.id, row.address, tuple(config["SecurityGroupIds"])) for row in allocated]
        where: list[str | None] = [subnets[row.subnet_id] for row in allocated]
    else:
        vpc_id = platform_vpc(job)
        group = platform_group(vpc_id).id
        enis = [
            Eni(new_id(NetworkInterface.prefix), f"{PLATFORM_NETWORK}{10 + index}", (group,)) for index in range(job.instances)
        ]
        where = [None] * job.instances
    return Plan(
        vpc_id,
        tuple(Placement(new_id("i"), host, eni, zone) for host, eni, zone in zip(hosts, enis, where, strict=True)),
    )


def spread(session: Session, job: TrainingJob) -> bool:
    """Whether the job's tags ask for a host of its own for each instance."""
    asked = session.scalar(select(Tag.value).where(Tag.arn == job.arn, Tag.key == PLACEMENT))
    return asked == SPREAD


def platform_vpc(job: TrainingJob) -> str:
    """Id of the VPC of its own that a job without VpcConfig is in."""
    return "vpc-" + hashlib.sha256(job.arn.encode()).hexdigest()[:17]


def platform_group(vpc_id: str) -> SecurityGroup:
    """The group of a job's own platform VPC: its instances reach each other, and nothing else is there."""
    group = "sg-" + vpc_id.removeprefix("vpc-")
    return SecurityGroup(group, (Rule("ingress", "-1", group=group), Rule("egress", "-1", group=group)))


def rules(session: Session, vpc_id: str) -> tuple[SecurityGroup, ...]:
    """The security groups of a VPC as they stand now: the user's, or those of a job's own platform VPC."""
    return interfaces.security_groups(session, vpc_id) or (platform_group(vpc_id),)


def goes_out(job: TrainingJob) -> bool:
    """Whether the job's containers can reach more than their peers, if their VPC has a way there."""
    return "VpcConfig" in job.request and not job.request.get("EnableNetworkIsolation", False)


def specs(
    job: TrainingJob,
    plan: Plan,
    store: ObjectStore,
    key: DataKey | None = None,
    spread: bool = False,
    profile: Profile = "standard",
    lends: bool = False,
) -> tuple[InstanceSpec, ...]:
    """What the fleet is told of each instance; makes new keys on every call. `key` encrypts what the job writes; `spread` gives
    each instance a host of its own; `profile` is what IKE daemons negotiate; `lends`: containers will be lent credentials of
    their role."""
    request = job.request
    algorithm = request["AlgorithmSpecification"]
    resources = request["ResourceConfig"]
    hosts = plan.hosts
    groups = _groups(resources, tuple(hosts))
    encrypted = job.encrypted and len(hosts) > 1
    mesh = issue_mesh(job.name, list(hosts.items()), profile=profile) if encrypted else {}
    command = algorithm.get("ContainerEntrypoint")
    arguments = algorithm.get("ContainerArguments")
    hyperparameters, source = script.brought(request.get("HyperParameters", {}))
    environment = {
        **backends.environment(encrypted),
        **(_s3_environment(store) if goes_out(job) else {}),
        **request.get("Environment", {}),
        "TRAINING_JOB_NAME": job.name,
        "TRAINING_JOB_ARN": job.arn,
        "AWS_REGION": job.arn.split(":")[3],
    }
    return tuple(
        InstanceSpec(
            id=placement.id,
            job=job.name,
            host=placement.host,
            hosts=hosts,
            vpc_id=plan.vpc_id,
            eni=placement.eni,
            isolated=request.get("EnableNetworkIsolation", False),
            mesh=mesh.get(placement.host),
            image=algorithm["TrainingImage"],
            command=tuple(command) if command else None,
            # An own entrypoint stands alone; only the image's is given the word `train` (docker run IMAGE train).
            arguments=tuple(arguments) if arguments else () if command else ("train",),
            environment=environment,
            limits=_limits(group),
            workspace=Workspace(
                job=job.name,
                host=placement.host,
                groups=groups,
                hyperparameters=tuple(hyperparameters.items()),
                channels=tuple(_channels(request, groups, placement.host)),
                source=source,
            ),
            store=store,
            output=Output(
                job.name,
                request["OutputDataConfig"]["S3OutputPath"],
                request["OutputDataConfig"].get("CompressionType", "GZIP"),
                key,
            ),
            checkpoints=Checkpoints(request["CheckpointConfig"]["S3Uri"], key) if "CheckpointConfig" in request else None,
            volume=(resources.get("VolumeSizeInGB") or DEFAULT_VOLUME) << 30,
            zone=placement.zone,
            spread=spread,
            credentials=f"/v2/credentials/{uuid4()}" if lends else None,
        )
        for group in groups
        for placement in plan.placements
        if placement.host in group.hosts
    )


def _s3_environment(store: ObjectStore) -> dict[str, str]:
    """Where a container in a VPC finds S3, if a way leads there: for boto3 and AWS's CLI, and for SageMaker's toolkits."""
    scheme, host, _ = store.location
    # By its name where its certificate is for that, and the instance knows it (`Instance.run`).
    url = f"{scheme}://{host if scheme == 'https' else S3_ADDRESS}:{S3_PORT}"
    return {"AWS_ENDPOINT_URL_S3": url, "S3_ENDPOINT_URL": url}


def _groups(resources: Json, hosts: tuple[str, ...]) -> tuple[Group, ...]:
    """The job's groups with their hosts: the first group has the first ones."""
    left = iter(hosts)
    return tuple(
        Group(group.name, group.instance_type, tuple(itertools.islice(left, group.count)))
        for group in instance_groups.groups(resources)
    )


def _limits(group: Group) -> Limits:
    capacity = instance_types.capacity(group.instance_type)
    return Limits(cpus=capacity.vcpus, memory=capacity.memory, gpus=capacity.gpus)


def _channels(request: Json, groups: tuple[Group, ...], host: str) -> Iterator[Channel]:
    """The channels that an instance has; those of other groups (InstanceGroupNames) it does not see."""
    for channel in request.get("InputDataConfig", []):
        names = channel["DataSource"]["S3DataSource"].get("InstanceGroupNames")
        sharing = [each for group in groups if not names or group.name in names for each in group.hosts]
        if host in sharing:
            yield _channel(request, channel, sharing.index(host), len(sharing))


def _channel(request: Json, channel: Json, shard: int, shards: int) -> Channel:
    source = channel["DataSource"]["S3DataSource"]
    return Channel(
        name=channel["ChannelName"],
        uri=source["S3Uri"],
        data_type=source["S3DataType"],
        distribution=source.get("S3DataDistributionType", "FullyReplicated"),
        content_type=channel.get("ContentType"),
        compression=channel.get("CompressionType", "None"),
        record_wrapper=channel.get("RecordWrapperType", "None"),
        mode=channel.get("InputMode", request["AlgorithmSpecification"]["TrainingInputMode"]),
        attributes=tuple(source.get("AttributeNames", [])),
        shuffle_seed=channel["ShuffleConfig"]["Seed"] if "ShuffleConfig" in channel else None,
        shard=shard,
        shards=shards,
    )
