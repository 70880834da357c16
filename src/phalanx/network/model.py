"""What the network room is told: security groups, network interfaces and the guards of encrypted jobs on one host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ENI_MTU = 9001
"""MTU of an ENI in bytes whose packets travel between hosts, at most: what EC2 gives an instance inside its VPC."""
HOST_MTU = 65535
"""MTU of an ENI in bytes whose job is all on one host: a packet costs a data plane much the same, however long it is, and IPv4
has no longer one."""

INTERFACE = "eth0"
"""Name of an ENI inside its instance's namespace."""
S3_ADDRESS = "198.51.100.1"
"""Where S3 is, for the instances of every VPC: an address of a block that nobody has (RFC 5737)."""
S3_PORT = 443
"""S3's port inside a VPC, whatever the one outside, so that security groups written for AWS fit."""
RESOLVER = "169.254.169.253"
"""The name server of every VPC (Amazon VPC user guide, "Amazon DNS server")."""
AZURE = "168.63.129.16"
"""Azure's service for its machines: an address of the internet's that is not a program's to ask."""

Direction = Literal["ingress", "egress"]
DIRECTIONS: tuple[Direction, ...] = ("ingress", "egress")


@dataclass(frozen=True, slots=True)
class Rule:
    """One security-group rule, as EC2 evaluates it.

    `protocol` is an IP protocol number as text, or "-1" for all. `from_port`/`to_port` bound the destination port of
    protocols 6 and 17, or hold ICMP type and code for 1 and 58 (-1 means any), and mean nothing for others (EC2 ignores
    them for protocol 50). Exactly one of `cidr` (IPv4 or IPv6 network) and `group` (id of the other side's group) is set.
    """

    direction: Direction
    protocol: str
    from_port: int | None = None
    to_port: int | None = None
    cidr: str | None = None
    group: str | None = None


@dataclass(frozen=True, slots=True)
class SecurityGroup:
    """A security group and its rules."""

    id: str
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Eni:
    """A network interface: its address, the groups that apply to it, and its MTU in bytes."""

    id: str
    address: str
    groups: tuple[str, ...]
    mtu: int = HOST_MTU


EXIT = Eni("exit", "169.254.1.2", ())
"""The router's end towards the outside: wired like an ENI, but to the namespace in which the relay listens."""


@dataclass(frozen=True, slots=True)
class AclRule:
    """One rule of a network ACL: what `rule`, which names a CIDR, is about is allowed, or it is not."""

    number: int
    allow: bool
    rule: Rule


@dataclass(frozen=True, slots=True)
class Acl:
    """A network ACL, and the networks (subnets) whose borders it watches. The first rule about a packet decides; what no rule
    is about does not pass.

    `behind` are pairs of networks, a subnet and where it leads by a NAT gateway in one of the ACL's: there and back is across
    that one's borders, too.
    """

    id: str
    networks: tuple[str, ...]
    rules: tuple[AclRule, ...]
    behind: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Exits:
    """How the subnets of a VPC lead out of it, and what their network ACLs let pass.

    From the networks (subnets) in `s3` packets may leave for S3, from those in `names` for the name server, which groups have
    no say in; `outside` are pairs of networks, a subnet and where it leads by a NAT gateway. `endpoints` are the network
    interfaces of S3 interface endpoints: every subnet leads to them, and their groups decide. `acls` are those that do not
    allow everything.
    """

    s3: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    outside: tuple[tuple[str, str], ...] = ()
    endpoints: tuple[Eni, ...] = ()
    acls: tuple[Acl, ...] = ()

    @property
    def lead(self) -> bool:
        """Whether anything leaves."""
        return bool(self.s3 or self.names or self.outside or self.endpoints)


NO_EXITS = Exits()
"""Nothing leaves."""


@dataclass(frozen=True, slots=True)
class Guard:
    """The router's guard over one encrypted job: between `addresses` only UDP 500 and ESP may pass."""

    job: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Remote:
    """A network interface of the VPC on another host, which has the address `host` on the network between hosts."""

    eni: Eni
    host: str


@dataclass(frozen=True, slots=True)
class Overlay:
    """How a VPC goes on on other hosts: VXLAN number `vni` (24 bits) from this host's address `local` to those of `remotes`."""

    vni: int
    local: str
    remotes: tuple[Remote, ...]


@dataclass(frozen=True, slots=True)
class VpcState:
    """All that the router of one VPC must enforce at a moment. `enis` are those attached on this host."""

    vpc_id: str
    groups: tuple[SecurityGroup, ...]
    enis: tuple[Eni, ...]
    guards: tuple[Guard, ...]
    exits: Exits = NO_EXITS
    remotes: tuple[Remote, ...] = ()


@dataclass(frozen=True, slots=True)
class GuardCounters:
    """What a router guard has counted between a job's instances since it was raised: IKE and ESP that instances on its own host
    have sent, and whatever it has dropped."""

    ike_packets: int
    ike_bytes: int
    esp_packets: int
    esp_bytes: int
    dropped_packets: int
    dropped_bytes: int


@dataclass(frozen=True, slots=True)
class Sighting:
    """A frame in the clear between two instances of an encrypted job, seen at `at` (milliseconds since 1970) or shortly before.

    `kind` is as in capture.Flow, `bytes` the frame's length, `head` its beginning in hex.
    """

    at: int
    source: str
    destination: str
    kind: str
    bytes: int
    head: str


@dataclass(frozen=True, slots=True)
class Watched:
    """What an instance of an encrypted job put on its wire, by an observer that is no guard (network/watch.py).

    Frames to other instances of its job, and to groups and everybody; ESP and IKE to anybody. `neighbour` are ARP and IPv6
    neighbour discovery, `clear` all else. Times are milliseconds since 1970: from `since` until `until`, but for `away`.
    """

    since: int
    until: int
    esp: int = 0
    ike: int = 0
    neighbour: int = 0
    clear: int = 0
    away: tuple[tuple[int, int], ...] = ()
    sightings: tuple[Sighting, ...] = ()
