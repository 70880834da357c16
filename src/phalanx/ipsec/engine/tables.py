"""SAD and SPD as the kernel keeps them for an IKE daemon: what may be installed, who owns it, when it expires. No I/O.

Only what is secure is accepted: ESP in tunnel mode between this instance's address and another, AES-GCM with a 16-byte ICV,
extended sequence numbers, a replay window, fresh keys; policies that protect or block. The rest is refused: with the errno that
the kernel has for it where the kernel refuses it too.

An SA or policy belongs to the connection that made it and goes with it: without its IKE daemon nothing is left open.
Times (`now`) are seconds of the monotonic clock.
"""

from __future__ import annotations

import errno
import itertools
import math
import secrets
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass, replace
from ipaddress import IPv4Address
from socket import AF_INET, AF_INET6
from typing import Any, Protocol

from phalanx.ipsec.engine import messages as xfrm
from phalanx.ipsec.engine.messages import Direction, Limits, Refused
from phalanx.ipsec.model import Work
from phalanx.ipsec.plane import Association, Totals

AEAD_NAMES = {"rfc4106(gcm(aes))": "AES_GCM_16"}
ICV_BITS = 128
SALT_BYTES = 4
KEY_BYTES = (16 + SALT_BYTES, 32 + SALT_BYTES)
WINDOWS = range(32, 4097)
ACQUIRE_SECONDS = 165
"""How long an SPI waits for its SA and a flow for an answer; strongSwan asks the kernel for the same (xfrm_acq_expires)."""

_SA_ATTRIBUTES = {
    xfrm.Attribute.ALG_AEAD,
    xfrm.Attribute.REPLAY_ESN_VAL,
    xfrm.Attribute.SA_EXTRA_FLAGS,
    xfrm.Attribute.SA_DIR,
}
_POLICY_ATTRIBUTES = {xfrm.Attribute.TMPL, xfrm.Attribute.POLICY_TYPE}

Owner = Hashable


@dataclass(frozen=True, slots=True)
class Usage:
    """What the data plane counted on an SA. Times in seconds of the wall clock, 0 for never."""

    packets: int = 0
    bytes: int = 0
    sequence: int = 0
    replays: int = 0
    integrity_failures: int = 0
    first_used: int = 0
    last_used: int = 0
    soft: bool = False
    hard: bool = False


@dataclass(frozen=True, slots=True)
class Flow:
    """A packet that met policy number `policy` of the outbound list and found no SA."""

    policy: int
    family: int
    source: bytes
    destination: bytes


class DataPlane(Protocol):
    """Who carries the packets. Directions are IN and OUT; addresses of SAs are 4 bytes."""

    def add(self, sa: Sa) -> None:
        """Installs an SA. Raises OSError."""

    def remove(self, sa: Sa) -> Usage:
        """Removes an SA, wipes its keys and says what it carried in all."""

    def usage(self, sa: Sa) -> Usage:
        """What an SA has carried so far."""

    def limit(self, sa: Sa) -> None:
        """Gives an SA the limits that `sa` now has."""

    def policies(self, direction: Direction, policies: Sequence[Policy]) -> None:
        """Replaces a direction's policies, first match first, all at once."""

    def wanted(self) -> Sequence[Flow]:
        """Flows that found no SA since the last call."""

    def drops(self) -> dict[str, int]:
        """Dropped packets by cause (native/engine/drops.h)."""

    def work(self) -> Work:
        """What its threads did."""


@dataclass(slots=True)
class Sa:
    """An installed SA."""

    owner: Owner
    direction: Direction
    info: xfrm.SaInfo
    algorithm: str
    key: bytearray
    window: int
    extra_flags: int
    added: float
    added_wall: int
    soft_sent: bool = False

    @property
    def limits(self) -> Limits:
        """When it expires."""
        return self.info.limits

    @property
    def copy_dscp(self) -> bool:
        """Whether the outer header gets the inner one's DSCP."""
        return not self.extra_flags & xfrm.XFLAG_DONT_ENCAP_DSCP


@dataclass(frozen=True, slots=True)
class Larva:
    """An SPI given out by ALLOCSPI whose SA has not come yet."""

    owner: Owner
    info: xfrm.SaInfo
    expires: float


@dataclass(slots=True)
class Policy:
    """An installed policy."""

    owner: Owner
    request: xfrm.PolicyRequest
    index: int
    added_wall: int
    asked_until: float = 0.0
    native: bytes = b""
    """What the data plane made of the request."""


def _text(address: bytes) -> str:
    return str(IPv4Address(address[:4]))


class Tables:
    """The SAD and SPD of one instance. `address` is its IPv4 address; `random_spi` draws from a closed range."""

    def __init__(
        self,
        address: str,
        plane: DataPlane,
        random_spi: Callable[[int, int], int] = lambda low, high: low + secrets.randbelow(high - low + 1),
    ) -> None:
        self._own = IPv4Address(address).packed.ljust(16, b"\0")
        self._plane = plane
        self._random_spi = random_spi
        self._started = time.monotonic_ns()
        self._larvae: dict[int, Larva] = {}
        self._associations: dict[tuple[bytes, int], Sa] = {}
        self._by_reqid: dict[tuple[Direction, int], list[Sa]] = {}
        self._soonest = math.inf
        self._policies: dict[tuple[int, bytes], Policy] = {}
        self._outbound: list[Policy] = []
        self._totals: dict[str, Totals] = {}
        """By the peer's address, of SAs that are gone."""
        self._next_index = 1
        self._next_acquire = 1

    # SAs

    def allocate_spi(self, request: xfrm.SpiRequest, owner: Owner, now: float) -> xfrm.SaInfo:
        """An SPI for an inbound SA, kept for it until ACQUIRE_SECONDS have passed."""
        info = request.info
        self._check_outer(info.family, info.protocol)
        if info.destination != self._own:
            raise Refused(errno.EINVAL, f"an SPI for {_text(info.destination)}, which is not this instance")
        low, high = max(request.minimum, 256), request.maximum
        if high < low:
            raise Refused(errno.EINVAL, f"no SPI in {request.minimum} … {request.maximum}")
        for _ in range(256):
            spi = self._random_spi(low, high)
            if spi not in self._larvae and (self._own, spi) not in self._associations:
                break
        else:
            raise Refused(errno.ENOENT, f"no free SPI found in {low} … {high}")
        limits = Limits(hard_seconds=ACQUIRE_SECONDS)
        selector = xfrm.parse_selector(xfrm.pack_larval_selector(info.source, info.destination))
        larva = replace(info, selector=selector, spi=spi, limits=limits, replay_window=0, flags=0)
        self._larvae[spi] = Larva(owner, larva, now + ACQUIRE_SECONDS)
        self._soonest = min(self._soonest, now + ACQUIRE_SECONDS)
        return larva

    def add(self, request: xfrm.SaRequest, owner: Owner, now: float) -> None:
        """NEWSA. The request's key belongs to the tables from here on, also when they refuse."""
        try:
            name = (request.info.destination, request.info.spi)
            if name in self._associations or (name[0] == self._own and name[1] in self._larvae):
                raise Refused(errno.EEXIST, f"SPI {name[1]:#x} is there already")
            self._install(request, owner, now)
        except BaseException:
            _wipe(request)
            raise

    def update(self, request: xfrm.SaRequest, owner: Owner, now: float) -> None:
        """UPDSA: the SA for an allocated SPI, or new limits for one that is there. The key belongs to the tables."""
        try:
            info = request.info
            present = self._associations.get((info.destination, info.spi))
            if present is not None:
                if request.aead is None or request.aead.key != present.key:
                    raise Refused(errno.EINVAL, f"SA {info.spi:#x} is there with another key")
                self._check_limits(info.limits)
                present.info, present.soft_sent = replace(present.info, limits=info.limits), False
                self._soonest = min(self._soonest, *_ends(present))
                self._plane.limit(present)
                _wipe(request)
                return
            if info.destination != self._own or info.spi not in self._larvae:
                raise Refused(errno.ESRCH, f"no SPI {info.spi:#x} was allocated")
            self._install(request, owner, now)
            del self._larvae[info.spi]
        except BaseException:
            _wipe(request)
            raise

    def _install(self, request: xfrm.SaRequest, owner: Owner, now: float) -> None:
        info, aead, replay = request.info, request.aead, request.replay
        direction = self._check_sa(request)
        if aead is None or replay is None:
            raise Refused(errno.EINVAL, "an SA without key or sequence numbers")
        sa = Sa(owner, direction, info, AEAD_NAMES[aead.name], aead.key, replay.window, request.extra_flags, now,
                int(time.time()))  # fmt: skip
        try:
            self._plane.add(sa)
        except OSError as error:
            raise Refused(error.errno or errno.EINVAL, f"the data plane refused SA {info.spi:#x}: {error}") from error
        self._associations[info.destination, info.spi] = sa
        self._by_reqid.setdefault((direction, info.reqid), []).append(sa)
        self._soonest = min(self._soonest, *_ends(sa))
        remote = self._remote(sa)
        self._totals[remote] = self._totals.get(remote, Totals()) + Totals(installed=int(direction is Direction.OUT))

    @staticmethod
    def _check_outer(family: int, protocol: int) -> None:
        if family != AF_INET:
            number = errno.EAFNOSUPPORT if family == AF_INET6 else errno.EINVAL
            raise Refused(number, f"outer address family {family}; only IPv4 is carried")
        if protocol != xfrm.ESP:
            raise Refused(errno.EINVAL, f"IP protocol {protocol}; only ESP is carried")

    @staticmethod
    def _check_limits(limits: Limits) -> None:
        if limits.soft_use_seconds or limits.hard_use_seconds:
            raise Refused(errno.EINVAL, "a lifetime that counts from the first use")

    def _check_sa(self, request: xfrm.SaRequest) -> Direction:
        info, aead, replay = request.info, request.aead, request.replay
        self._check_outer(info.family, info.protocol)
        self._check_limits(info.limits)
        if info.mode != xfrm.TUNNEL:
            raise Refused(errno.EINVAL, f"XFRM mode {info.mode}; only tunnel mode is carried")
        if aead is None:
            raise Refused(errno.EINVAL, "no AEAD algorithm; only AES-GCM is carried")
        if unknown := request.attributes - _SA_ATTRIBUTES:
            raise Refused(errno.EOPNOTSUPP, f"attributes {sorted(unknown)}")
        if aead.name not in AEAD_NAMES or aead.icv_bits != ICV_BITS:
            raise Refused(errno.ENOSYS, f"{aead.name} with an ICV of {aead.icv_bits} bits; only AES-GCM with 128 is carried")
        if len(aead.key) not in KEY_BYTES:
            raise Refused(errno.EINVAL, f"{aead.name} with a key of {8 * len(aead.key)} bits")
        if info.flags != xfrm.STATE_ESN | (info.flags & xfrm.STATE_AF_UNSPEC) or replay is None:
            raise Refused(errno.EINVAL, f"flags {info.flags:#x}; only extended sequence numbers are carried")
        if replay.sent or replay.received:
            raise Refused(errno.EINVAL, "a key whose sequence numbers have been used")
        if request.extra_flags & ~xfrm.XFLAG_DONT_ENCAP_DSCP:
            raise Refused(errno.EINVAL, f"extra flags {request.extra_flags:#x}")
        if info.selector.family or info.selector.others or info.selector.source_prefix or info.selector.destination_prefix:
            raise Refused(errno.EINVAL, "an SA with a selector of its own")
        if info.spi < 256:
            raise Refused(errno.EINVAL, f"SPI {info.spi} is reserved")
        if (info.source == self._own) == (info.destination == self._own):
            raise Refused(errno.EINVAL, f"an SA between {_text(info.source)} and {_text(info.destination)}")
        direction = Direction.IN if info.destination == self._own else Direction.OUT
        if request.direction not in (None, direction):
            raise Refused(errno.EINVAL, f"SA {info.spi:#x} says another direction than its addresses")
        # An outbound SA has no use for a window. Who says its direction (strongSwan 6, Linux 6.10) gives it none.
        none = replay.window == 0 and request.direction is not Direction.OUT
        if none or (direction is Direction.IN and replay.window not in WINDOWS):
            raise Refused(errno.EINVAL, f"a replay window of {replay.window} packets")
        return direction

    @staticmethod
    def _remote(sa: Sa) -> str:
        return _text(sa.info.source if sa.direction is Direction.IN else sa.info.destination)

    def find(self, name: xfrm.SaId) -> Sa:
        """The SA of that name. Raises Refused (ESRCH)."""
        sa = self._associations.get((name.destination, name.spi)) if name.protocol == xfrm.ESP else None
        if sa is None:
            raise Refused(errno.ESRCH, f"no SA {name.spi:#x}")
        return sa

    def find_larva(self, name: xfrm.SaId) -> Larva | None:
        """The allocated SPI of that name, if it is one."""
        return self._larvae.get(name.spi) if name.destination == self._own else None

    def usage(self, sa: Sa) -> Usage:
        """What the SA has carried so far."""
        return self._plane.usage(sa)

    def delete(self, name: xfrm.SaId) -> None:
        """DELSA, of an SA or an allocated SPI. Raises Refused (ESRCH)."""
        if self.find_larva(name) is not None:
            del self._larvae[name.spi]
        else:
            self._remove(self.find(name))

    def _remove(self, sa: Sa) -> None:
        usage = self._plane.remove(sa)
        sa.key[:] = bytes(len(sa.key))
        del self._associations[sa.info.destination, sa.info.spi]
        self._by_reqid[sa.direction, sa.info.reqid].remove(sa)
        self._totals[self._remote(sa)] += _carried(sa, usage)

    def flush_associations(self) -> None:
        """FLUSHSA."""
        self._larvae.clear()
        for sa in self.associations():
            self._remove(sa)

    def larvae(self) -> list[Larva]:
        """All SPIs that wait for their SA."""
        return list(self._larvae.values())

    def associations(self) -> list[Sa]:
        """All SAs, oldest first."""
        return list(self._associations.values())

    # Policies

    def add_policy(self, request: xfrm.PolicyRequest, owner: Owner) -> None:
        """NEWPOLICY. Raises Refused (EEXIST) where there is one with this selector and direction."""
        if (request.direction, request.selector.raw) in self._policies:
            raise Refused(errno.EEXIST, "a policy with this selector is there already")
        self.update_policy(request, owner)

    def update_policy(self, request: xfrm.PolicyRequest, owner: Owner) -> None:
        """UPDPOLICY: adds or replaces. An outbound template's SPI decides which SA the next packet takes."""
        self._check_policy(request)
        name = (request.direction, request.selector.raw)
        present = self._policies.get(name)
        index = present.index if present else 8 * self._next_index + request.direction
        self._next_index += present is None
        self._policies[name] = Policy(owner, request, index, int(time.time()))
        self._push(request.direction)

    @staticmethod
    def _check_policy(request: xfrm.PolicyRequest) -> None:
        selector = request.selector
        if request.direction not in tuple(Direction):
            raise Refused(errno.EINVAL, f"policy direction {request.direction}")
        if selector.family not in (AF_INET, AF_INET6):
            raise Refused(errno.EINVAL, f"policy for address family {selector.family}")
        bits = 32 if selector.family == AF_INET else 128
        if selector.source_prefix > bits or selector.destination_prefix > bits:
            raise Refused(errno.EINVAL, "a prefix longer than its address")
        if selector.others:
            raise Refused(errno.EOPNOTSUPP, "a policy that selects by more than addresses")
        if unknown := request.attributes - _POLICY_ATTRIBUTES:
            raise Refused(errno.EOPNOTSUPP, f"attributes {sorted(unknown)}")
        limits = request.limits
        if any((limits.soft_seconds, limits.hard_seconds, limits.soft_use_seconds, limits.hard_use_seconds)):
            raise Refused(errno.EOPNOTSUPP, "a policy with a lifetime")
        if request.action == xfrm.Action.BLOCK:
            return
        if request.action != xfrm.Action.ALLOW:
            raise Refused(errno.EINVAL, f"policy action {request.action}")
        if len(request.templates) != 1:
            raise Refused(errno.EINVAL, f"{len(request.templates)} templates; a policy protects with one SA or blocks")
        template = request.templates[0]
        if template.family != AF_INET or template.protocol != xfrm.ESP or template.mode != xfrm.TUNNEL or template.optional:
            raise Refused(errno.EINVAL, "a template other than required ESP in tunnel mode over IPv4")

    def find_policy(self, name: xfrm.PolicyId) -> Policy:
        """The policy of that name. Raises Refused (ENOENT)."""
        if name.direction not in tuple(Direction):
            raise Refused(errno.EINVAL, f"policy direction {name.direction}")
        if name.index:
            found = next((policy for policy in self.policies(name.direction) if policy.index == name.index), None)
        else:
            found = self._policies.get((name.direction, name.selector.raw))
        if found is None:
            raise Refused(errno.ENOENT, "no such policy")
        return found

    def delete_policy(self, name: xfrm.PolicyId) -> None:
        """DELPOLICY. Raises Refused (ENOENT)."""
        policy = self.find_policy(name)
        del self._policies[policy.request.direction, policy.request.selector.raw]
        self._push(policy.request.direction)

    def flush_policies(self) -> None:
        """FLUSHPOLICY."""
        self._policies.clear()
        for direction in (Direction.IN, Direction.OUT):
            self._push(direction)

    def policies(self, direction: int | None = None) -> list[Policy]:
        """All policies, or one direction's; first match first."""
        chosen = [policy for policy in self._policies.values() if direction in (None, policy.request.direction)]
        return sorted(chosen, key=lambda policy: (policy.request.priority, policy.index))

    def policy_used(self, policy: Policy) -> int:
        """When an SA of the policy last carried a packet; seconds of the wall clock, 0 for never."""
        direction = Direction.OUT if policy.request.direction == Direction.OUT else Direction.IN
        fitting = [sa for template in policy.request.templates for sa in self._by_reqid.get((direction, template.reqid), ())]
        return max((self._plane.usage(sa).last_used for sa in fitting), default=0)

    def _push(self, direction: int) -> None:
        # Forward policies are kept for the daemon and for dumps only: an instance is no router, nothing is forwarded.
        if direction == Direction.FWD:
            return
        policies = self.policies(direction)
        self._plane.policies(Direction(direction), policies)
        if direction == Direction.OUT:
            self._outbound = policies

    # Time, and what the data plane saw

    def deadline(self) -> float | None:
        """When tick may have something to do next, if nothing else happens. It is asked often, and looks through nothing."""
        return self._soonest if self._soonest < math.inf else None

    def tick(self, now: float) -> list[tuple[xfrm.SaInfo, Sa | None, Usage, bool]]:
        """SAs and SPIs whose lifetime has ended: what expired, its SA (None for an SPI), its last usage, whether hard.

        A hard end removes; a soft one is told once.
        """
        ended: list[tuple[xfrm.SaInfo, Sa | None, Usage, bool]] = []
        for larva in list(self._larvae.values()):
            if now >= larva.expires:
                del self._larvae[larva.info.spi]
                ended.append((larva.info, None, Usage(), True))
        for sa in self.associations():
            usage, age = self._plane.usage(sa), now - sa.added
            if usage.hard or (sa.limits.hard_seconds and age >= sa.limits.hard_seconds):
                self._remove(sa)
                ended.append((sa.info, sa, usage, True))
            elif not sa.soft_sent and (usage.soft or (sa.limits.soft_seconds and age >= sa.limits.soft_seconds)):
                sa.soft_sent = True
                ended.append((sa.info, sa, usage, False))
        larvae = (larva.expires for larva in self._larvae.values())
        self._soonest = min(itertools.chain(larvae, *map(_ends, self._associations.values())), default=math.inf)
        return ended

    def acquire(self, now: float) -> list[tuple[Flow, Policy, int]]:
        """Flows for which an SA has to be negotiated, each policy's once in ACQUIRE_SECONDS, with a number of its own."""
        asked = []
        for flow in self._plane.wanted():
            if flow.policy >= len(self._outbound):
                continue
            policy = self._outbound[flow.policy]
            if now < policy.asked_until:
                continue
            policy.asked_until = now + ACQUIRE_SECONDS
            asked.append((flow, policy, self._next_acquire))
            self._next_acquire += 1
        return asked

    def release(self, owner: Owner) -> int:
        """Removes all that a connection made, outbound policies first. How much that was."""
        doomed = [name for name, policy in self._policies.items() if policy.owner == owner]
        for name in doomed:
            del self._policies[name]
        if doomed:
            for direction in (Direction.OUT, Direction.IN):
                self._push(direction)
        owned = [sa for sa in self.associations() if sa.owner == owner]
        for sa in owned:
            self._remove(sa)
        self._larvae = {spi: larva for spi, larva in self._larvae.items() if larva.owner != owner}
        return len(doomed) + len(owned)

    def report(self) -> dict[str, Any]:
        """The engine's state at this moment, as `Engine.measure` reads it."""
        totals, live = dict(self._totals), list[Association]()
        for sa in self.associations():
            usage, info = self._plane.usage(sa), sa.info
            totals[self._remote(sa)] += _carried(sa, usage)
            live.append(
                Association(
                    spi=info.spi,
                    source=_text(info.source),
                    destination=_text(info.destination),
                    algorithm=sa.algorithm,
                    key_bits=8 * (len(sa.key) - SALT_BYTES),
                    esn=bool(info.flags & xfrm.STATE_ESN),
                )
            )
        requests = [policy.request for policy in self._policies.values()]
        return {
            "associations": [asdict(each) for each in live],
            "flows": [
                (_text(request.selector.source), _text(request.selector.destination))
                for request in requests
                if request.templates and request.action == xfrm.Action.ALLOW and request.direction != Direction.FWD
            ],
            "pairs": [{"remote": remote, **asdict(each)} for remote, each in totals.items()],
            "drops": self._plane.drops(),
            "work": asdict(self._plane.work()),
            "started": self._started,
        }


def _carried(sa: Sa, usage: Usage) -> Totals:
    if sa.direction is Direction.IN:
        return Totals(packets_in=usage.packets, bytes_in=usage.bytes)
    return Totals(packets_out=usage.packets, bytes_out=usage.bytes)


def _ends(sa: Sa) -> tuple[float, float]:
    """When an SA's soft and its hard lifetime end, as far as they have yet to be told."""
    soft, hard = sa.limits.soft_seconds, sa.limits.hard_seconds
    return sa.added + soft if soft and not sa.soft_sent else math.inf, sa.added + hard if hard else math.inf


def _wipe(request: xfrm.SaRequest) -> None:
    if request.aead is not None:
        request.aead.key[:] = bytes(len(request.aead.key))
