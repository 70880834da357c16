"""XFRM message in, state out: answers the kernel's requests from the tables. No I/O."""

from __future__ import annotations

import errno
import hashlib
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field

from phalanx.ipsec.engine import messages as xfrm
from phalanx.ipsec.engine.messages import Attribute, Header, Refused, Type
from phalanx.ipsec.engine.tables import ICV_BITS, Policy, Sa, Tables, Usage

REMEMBERED = 32

GROUP_ACQUIRE = 1
GROUP_EXPIRE = 2

_READS = {Type.GETSA, Type.GETPOLICY, Type.GETAE, Type.GETSPDINFO, Type.GETSADINFO}
_SHORTEST: dict[int, int] = {Type.FLUSHSA: 1, Type.GETSPDINFO: 4, Type.NEWSPDINFO: 4, Type.GETSADINFO: 4}
_AEAD_NAME = "rfc4106(gcm(aes))"


@dataclass(slots=True)
class Dispatcher:
    """One instance's XFRM. `owner` names a connection; what it makes is released with it."""

    tables: Tables
    refusals: list[str] = field(default_factory=list)
    """Why requests were refused since the list was last emptied; for the log."""
    _answered: dict[Hashable, OrderedDict[tuple[int, bytes], list[bytes]]] = field(default_factory=dict)

    def handle(self, message: xfrm.Buffer, owner: Hashable, now: float) -> list[bytearray]:
        """The answers to a request, in order. They may hold keys: wipe them when they are sent.

        A request that comes again (strongSwan repeats it with the same number when an answer is late) changes nothing and
        gets the same answer. Raises Refused for what is no netlink message.
        """
        header, body = xfrm.parse_header(message)
        if header.type in _READS:
            return self._attempt(header, body, owner, now)
        answered = self._answered.setdefault(owner, OrderedDict())
        key = (header.sequence, hashlib.sha256(message).digest())
        if key not in answered:
            answered[key] = [bytes(answer) for answer in self._attempt(header, body, owner, now)]
            while len(answered) > REMEMBERED:
                answered.popitem(last=False)
        return [bytearray(answer) for answer in answered[key]]

    def release(self, owner: Hashable) -> int:
        """Ends a connection: everything that it made goes. How much that was."""
        self._answered.pop(owner, None)
        return self.tables.release(owner)

    def _attempt(self, header: Header, body: memoryview, owner: Hashable, now: float) -> list[bytearray]:
        length = 16 + len(body)
        try:
            answers = self._act(header, body, owner, now)
        except Refused as refusal:
            # "Not there" and "there already" are everyday answers of the kernel's; the rest is worth a line.
            if refusal.number not in (errno.ESRCH, errno.ENOENT, errno.EEXIST):
                self.refusals.append(f"XFRM message {header.type:#x} refused, {refusal}")
            return [xfrm.build_error(refusal.number, header, length)]
        if header.flags & xfrm.NLM_F_ACK and not _is_dump(header):
            answers.append(xfrm.build_error(0, header, length))
        return answers

    def _act(self, header: Header, body: memoryview, owner: Hashable, now: float) -> list[bytearray]:
        tables, number = self.tables, header.sequence
        if len(body) < _SHORTEST.get(header.type, 0):
            raise Refused(errno.EINVAL, f"message type {header.type:#x} in {len(body)} bytes")
        dump = _is_dump(header)
        match header.type:
            case Type.ALLOCSPI:
                info = tables.allocate_spi(xfrm.parse_spi_request(body), owner, now)
                return [_describe_larva(info, number)]
            case Type.NEWSA:
                tables.add(xfrm.parse_sa_request(body), owner, now)
            case Type.UPDSA:
                tables.update(xfrm.parse_sa_request(body), owner, now)
            case Type.DELSA:
                tables.delete(xfrm.parse_sa_id(body))
            case Type.GETSA if dump:
                larvae = [_describe_larva(larva.info, number, xfrm.NLM_F_MULTI) for larva in tables.larvae()]
                all_sas = [self._describe_sa(sa, number, xfrm.NLM_F_MULTI) for sa in tables.associations()]
                return [*larvae, *all_sas, xfrm.build_done(number)]
            case Type.GETSA:
                return [self._get_sa(xfrm.parse_sa_id(body), number)]
            case Type.GETAE:
                return [self._get_replay_state(*xfrm.parse_replay_request(body), number)]
            case Type.FLUSHSA:
                if body[:1] in (b"\0", bytes([xfrm.ESP]), b"\xff"):
                    tables.flush_associations()
            case Type.NEWPOLICY:
                tables.add_policy(xfrm.parse_policy_request(body), owner)
            case Type.UPDPOLICY:
                tables.update_policy(xfrm.parse_policy_request(body), owner)
            case Type.DELPOLICY:
                tables.delete_policy(xfrm.parse_policy_id(body))
            case Type.GETPOLICY if dump:
                all_policies = [self._describe_policy(policy, number, xfrm.NLM_F_MULTI) for policy in tables.policies()]
                return [*all_policies, xfrm.build_done(number)]
            case Type.GETPOLICY:
                return [self._describe_policy(tables.find_policy(xfrm.parse_policy_id(body)), number, 0)]
            case Type.FLUSHPOLICY:
                tables.flush_policies()
            case Type.GETSPDINFO:
                inbound, outbound, forward = (len(tables.policies(direction)) for direction in xfrm.Direction)
                return [xfrm.build_spd_info(inbound, outbound, forward, number)]
            case Type.NEWSPDINFO:
                pass  # thresholds of the kernel's policy hash: nothing here depends on them
            case Type.GETSADINFO:
                return [xfrm.build_sad_info(len(tables.associations()) + len(tables.larvae()), number)]
            case _:
                raise Refused(errno.EINVAL, f"message type {header.type:#x} is not served")
        return []

    def _describe_sa(self, sa: Sa, sequence: int, flags: int = 0) -> bytearray:
        usage = self.tables.usage(sa)
        body = bytearray(_pack_sa(sa, usage))
        body += xfrm.pack_aead(_AEAD_NAME, sa.key, ICV_BITS)
        body += _pack_replay(sa, usage)
        if sa.extra_flags:
            body += xfrm.pack_attribute(Attribute.SA_EXTRA_FLAGS, sa.extra_flags.to_bytes(4, "little"))
        if usage.last_used:
            body += xfrm.pack_attribute(Attribute.LASTUSED, usage.last_used.to_bytes(8, "little"))
        return xfrm.build(Type.NEWSA, body, sequence, flags)

    def _get_sa(self, name: xfrm.SaId, sequence: int) -> bytearray:
        larva = self.tables.find_larva(name)
        if larva is not None:
            return _describe_larva(larva.info, sequence)
        return self._describe_sa(self.tables.find(name), sequence)

    def _get_replay_state(self, name: xfrm.SaId, flags: int, sequence: int) -> bytearray:
        sa = self.tables.find(name)
        usage = self.tables.usage(sa)
        replay, current = _pack_replay(sa, usage), _current(sa, usage)
        return xfrm.build_replay_state(name, sa.info.source, flags, sa.info.reqid, replay, current, sequence)

    def _describe_policy(self, policy: Policy, sequence: int, flags: int) -> bytearray:
        current = xfrm.Current(added=policy.added_wall, used=self.tables.policy_used(policy))
        body = bytearray(xfrm.pack_policy(policy.request, policy.index, current))
        if policy.request.templates:
            body += xfrm.pack_templates(policy.request.templates)
        body += xfrm.pack_main_type()
        return xfrm.build(Type.NEWPOLICY, body, sequence, flags)

    def events(self, now: float) -> list[tuple[int, bytearray]]:
        """What listeners of a multicast group have to be told at this time: EXPIRE and ACQUIRE."""
        told = list[tuple[int, bytearray]]()
        for info, sa, usage, hard in self.tables.tick(now):
            packed = xfrm.pack_sa(info, xfrm.Current()) if sa is None else _pack_sa(sa, usage)
            told.append((GROUP_EXPIRE, xfrm.build_expire(packed, hard)))
        for flow, policy, number in self.tables.acquire(now):
            selector = xfrm.pack_selector(flow.family, flow.source, flow.destination)
            told.append((GROUP_ACQUIRE, xfrm.build_acquire(selector, policy.request, policy.index, number)))
        return told


def _current(sa: Sa, usage: Usage) -> xfrm.Current:
    return xfrm.Current(usage.bytes, usage.packets, sa.added_wall, usage.first_used)


def _describe_larva(info: xfrm.SaInfo, sequence: int, flags: int = 0) -> bytearray:
    return xfrm.build(Type.NEWSA, xfrm.pack_sa(info, xfrm.Current()) + xfrm.pack_no_replay(), sequence, flags)


def _pack_sa(sa: Sa, usage: Usage) -> bytes:
    return xfrm.pack_sa(sa.info, _current(sa, usage), usage.replays, usage.integrity_failures)


def _pack_replay(sa: Sa, usage: Usage) -> bytearray:
    if sa.direction is xfrm.Direction.IN:
        return xfrm.pack_replay(sa.window, 0, usage.sequence)
    return xfrm.pack_replay(sa.window, usage.sequence, 0)


def _is_dump(header: Header) -> bool:
    # The same bits mean REPLACE and EXCL to requests that make something (linux/netlink.h).
    return header.type in (Type.GETSA, Type.GETPOLICY) and header.flags & xfrm.NLM_F_DUMP == xfrm.NLM_F_DUMP
