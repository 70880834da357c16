"""What the ipsec room is told about one instance's side of a job's mesh, and what it measures of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

PlaneName = Literal["kernel", "engine"]
Profile = Literal["standard", "cnsa"]
"""What a job's IKE daemons negotiate: the house's own suite, or CNSA's (`charon.proposals`)."""

SUITES = frozenset(f"AES_GCM_16-256/PRF_HMAC_SHA2_{bits}/ECP_384{more}" for bits in (384, 512) for more in ("", "/ML_KEM_1024"))
"""The suites of an IKE_SA that are negotiated, as `charon.IkeSa` has them; no other would be believed."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """An instance's keys for one job: PEM texts, and the job's PPK (RFC 8784) as hex. Never printed, never on a disk."""

    authority: str
    certificate: str
    private_key: str = field(repr=False)
    ppk_id: str
    ppk: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Peer:
    """Another instance of the job. `identity` is the subjectAltName (DNS) in its certificate; `fingerprint` its SHA-256."""

    name: str
    address: str
    identity: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """When a CHILD_SA is rekeyed: after so many seconds, bytes or packets, whichever comes first."""

    seconds: int = 3600
    bytes: int = 2**40
    packets: int = 2**31 - 1


@dataclass(frozen=True, slots=True)
class MeshSpec:
    """One instance's side of a job's full mesh. Of a pair, the side initiates whose name sorts first as text (`algo-10` before
    `algo-2`)."""

    job: str
    name: str
    address: str
    identity: str
    fingerprint: str
    peers: tuple[Peer, ...]
    credentials: Credentials
    lifetimes: Lifetimes = Lifetimes()
    profile: Profile = "standard"


@dataclass(frozen=True, slots=True)
class PairReport:
    """The measured state of one pair, seen from `local`. Packets and bytes are inner traffic, summed over all rekeyed SAs.

    `ike` is the suite of the IKE_SA, as `charon.IkeSa` has it. `key_age` is for how many seconds the keys in use have been;
    None without any.
    """

    local: str
    remote: str
    established: bool
    algorithm: str
    key_bits: int
    esn: bool
    ppk: bool
    ike: str
    spi_in: str
    spi_out: str
    packets_in: int
    packets_out: int
    bytes_in: int
    bytes_out: int
    rekeys: int
    local_certificate: str
    remote_certificate: str
    key_age: int | None = None

    @property
    def strong(self) -> bool:
        """Whether what was negotiated is nothing weaker than AES-256-GCM with ESN, SHA-384, P-384 and a PPK."""
        return (self.algorithm, self.key_bits, self.esn, self.ppk) == ("AES_GCM_16", 256, True, True) and self.ike in SUITES


@dataclass(frozen=True, slots=True)
class Work:
    """What carrying the packets took so far: for how many seconds there were some in hand, in each direction, and how often the
    data plane was woken for some."""

    seconds_in: float = 0.0
    seconds_out: float = 0.0
    wakes: int = 0


@dataclass(frozen=True, slots=True)
class MeshReport:
    """What one instance's data plane, IKE daemon and kernel guard report of themselves at a moment.

    `versions` are those of what encrypts, by name (`linux`, `strongswan`). `work` is None where the data plane does not count
    it.
    """

    data_plane: PlaneName
    pairs: tuple[PairReport, ...]
    plaintext_blocked_out: int
    plaintext_blocked_in: int
    drops: Mapping[str, int]
    versions: Mapping[str, str] = field(default_factory=dict)
    work: Work | None = None
