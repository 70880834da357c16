"""What the data room is told: the object store, the channels of an instance and where its output goes."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Base64Bytes


@dataclass(frozen=True, slots=True)
class DataKey:
    """A data key of KMS (AES-256): what it is made under, its ciphertext as KMS gave it, and itself."""

    arn: str
    wrapped: Base64Bytes
    plaintext: Base64Bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class RoleCredentials:
    """What a training container may act with as its job's role (an ARN), until it `expires`."""

    role: str
    access_key: str
    secret_key: str = field(repr=False)
    token: str = field(repr=False)
    expires: datetime


@dataclass(frozen=True, slots=True)
class ObjectStore:
    """How to reach S3. `endpoint` None means AWS's own for the region; `token` belongs to the access key of a session; `keys`
    open objects that jobs wrote encrypted. Proxies that the environment names may be asked only where it is `proxied`."""

    endpoint: str | None
    region: str
    access_key: str
    secret_key: str = field(repr=False)
    keys: tuple[DataKey, ...] = ()
    token: str | None = field(default=None, repr=False)
    proxied: bool = False

    @property
    def location(self) -> tuple[str, str, int]:
        """Scheme, host and port of the endpoint."""
        url = urlsplit(self.endpoint or f"https://s3.{self.region}.amazonaws.com")
        return url.scheme, url.hostname or "", url.port or {"http": 80}.get(url.scheme, 443)


@dataclass(frozen=True, slots=True)
class Channel:
    """One input channel of a training job (CreateTrainingJob.InputDataConfig) as one instance sees it.

    The instance is number `shard` (from 0) of the `shards` instances that share the channel where it is ShardedByS3Key.
    `attributes` are AttributeNames of an augmented manifest; `shuffle_seed` is ShuffleConfig.Seed.
    """

    name: str
    uri: str
    distribution: Literal["FullyReplicated", "ShardedByS3Key"] = "FullyReplicated"
    content_type: str | None = None
    compression: Literal["None", "Gzip"] = "None"
    record_wrapper: Literal["None", "RecordIO"] = "None"
    data_type: Literal["S3Prefix", "ManifestFile", "AugmentedManifestFile"] = "S3Prefix"
    mode: Literal["File", "FastFile", "Pipe"] = "File"
    attributes: tuple[str, ...] = ()
    shuffle_seed: int | None = None
    shard: int = 0
    shards: int = 1


@dataclass(frozen=True, slots=True)
class Feed:
    """What the pipes of an instance carry: its channels in Pipe mode, into /opt/ml, which is the host's directory `opt_ml`.

    The FIFOs belong to `owner` (uid, gid). What ends the feed early is written to the file `error`.
    """

    store: ObjectStore
    channels: tuple[Channel, ...]
    opt_ml: str
    owner: tuple[int, int]
    error: str


@dataclass(frozen=True, slots=True)
class Group:
    """An instance group of a job (ResourceConfig.InstanceGroups); a job without groups is one."""

    name: str
    instance_type: str
    hosts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Workspace:
    """What an instance's /opt/ml says about the job: the files of /opt/ml/input/config, and what is brought to input/source."""

    job: str
    host: str
    groups: tuple[Group, ...]
    hyperparameters: tuple[tuple[str, str], ...]
    channels: tuple[Channel, ...]
    source: Channel | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """Where the artifacts of a job go: `uri` is OutputDataConfig.S3OutputPath; `key` encrypts them (KmsKeyId)."""

    job: str
    uri: str
    compression: Literal["GZIP", "NONE"] = "GZIP"
    key: DataKey | None = None


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Where the checkpoints of a job are kept (CheckpointConfig.S3Uri); `key` encrypts them (OutputDataConfig.KmsKeyId)."""

    uri: str
    key: DataKey | None = None
