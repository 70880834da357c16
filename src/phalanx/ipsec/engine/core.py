"""The C data plane (native/engine) through ctypes, as the tables' DataPlane."""

from __future__ import annotations

import ctypes
import importlib.machinery
import os
from collections.abc import Sequence
from ctypes import (
    POINTER,
    Structure,
    c_char_p,
    c_int,
    c_int32,
    c_long,
    c_size_t,
    c_uint8,
    c_uint16,
    c_uint32,
    c_uint64,
    c_void_p,
)
from functools import cache
from pathlib import Path
from typing import Any

from phalanx.ipsec.engine.errors import EngineError
from phalanx.ipsec.engine.messages import Action, Direction
from phalanx.ipsec.engine.tables import Flow, Policy, Sa, Usage
from phalanx.ipsec.model import Work

KEY_MAX = 36
FLOWS_MAX = 64

_STALE = "the engine's native part was built from other sources than this package; install the package again"


class Limits(Structure):
    """struct sa_limits."""

    _fields_ = (
        ("soft_packets", c_uint64),
        ("hard_packets", c_uint64),
        ("soft_bytes", c_uint64),
        ("hard_bytes", c_uint64),
    )


class Config(Structure):
    """struct sa_config."""

    _fields_ = (
        ("spi", c_uint32),
        ("reqid", c_uint32),
        ("source", c_uint8 * 4),
        ("destination", c_uint8 * 4),
        ("window", c_uint32),
        ("copy_dscp", c_uint32),
        ("sequence", c_uint64),
        ("limits", Limits),
        ("key_length", c_uint32),
        ("key", c_uint8 * KEY_MAX),
    )


class RawUsage(Structure):
    """struct sa_usage."""

    _fields_ = (
        ("packets", c_uint64),
        ("bytes", c_uint64),
        ("sequence", c_uint64),
        ("replays", c_uint64),
        ("integrity_failures", c_uint64),
        ("first_used", c_uint64),
        ("last_used", c_uint64),
        ("soft", c_uint32),
        ("hard", c_uint32),
    )


class RawPolicy(Structure):
    """struct policy."""

    _fields_ = (
        ("family", c_uint16),
        ("source_prefix", c_uint8),
        ("destination_prefix", c_uint8),
        ("source", c_uint8 * 16),
        ("destination", c_uint8 * 16),
        ("action", c_uint32),
        ("spi", c_uint32),
        ("reqid", c_uint32),
        ("tunnel_source", c_uint8 * 4),
        ("tunnel_destination", c_uint8 * 4),
    )


class RawFlow(Structure):
    """struct flow."""

    _fields_ = (
        ("policy", c_uint32),
        ("family", c_uint16),
        ("source", c_uint8 * 16),
        ("destination", c_uint8 * 16),
    )


class Wiring(Structure):
    """struct wiring."""

    _fields_ = (
        ("tun", c_int32),
        ("net", c_int32),
        ("event", c_int32),
        ("address", c_uint8 * 4),
        ("port", c_uint32),
        ("batch", c_uint32),
        ("udp_offload", c_uint32),
    )


def built(name: str) -> Path:
    """The shared object of that name which setup.py puts into this package.

    Raises EngineError where the package was installed without its native part.
    """
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        path = Path(__file__).with_name(name + suffix)
        if path.is_file():
            return path
    raise EngineError(f"the engine's native part {name} is not built; install the package again (it needs gcc and libssl-dev)")


@cache
def library() -> ctypes.CDLL:
    """The loaded data plane, with its functions typed. Raises EngineError."""
    try:
        core = ctypes.CDLL(str(built("_core")))
    except OSError as error:
        raise EngineError(f"the engine's native part cannot be loaded: {error}") from error
    buffer, numbers = POINTER(c_uint8), POINTER(c_uint64)
    functions: tuple[tuple[str, Any, list[Any]], ...] = (
        ("phx_size", c_size_t, [c_int]),
        ("phx_aead", c_char_p, [c_char_p]),
        ("phx_new", c_void_p, []),
        ("phx_free", None, [c_void_p]),
        ("phx_run", c_int, [c_void_p, POINTER(Wiring)]),
        ("phx_failure", c_int, [c_void_p]),
        ("phx_sa_add", c_int, [c_void_p, c_int, POINTER(Config)]),
        ("phx_sa_remove", c_int, [c_void_p, c_int, c_uint32, c_uint32, POINTER(RawUsage)]),
        ("phx_sa_usage", c_int, [c_void_p, c_int, c_uint32, c_uint32, POINTER(RawUsage)]),
        ("phx_sa_limit", c_int, [c_void_p, c_int, c_uint32, c_uint32, POINTER(Limits)]),
        ("phx_policies", c_int, [c_void_p, c_int, POINTER(RawPolicy), c_size_t]),
        ("phx_wanted", c_size_t, [c_void_p, POINTER(RawFlow), c_size_t]),
        ("phx_drop_causes", c_int, []),
        ("phx_drop_name", c_char_p, [c_int]),
        ("phx_drops", None, [c_void_p, numbers]),
        ("phx_work", None, [c_void_p, numbers]),
        ("phx_pass", c_long, [c_void_p, c_int, c_char_p, c_size_t, buffer, c_size_t]),
        ("phx_pass_many", c_long, [c_void_p, c_int, c_char_p, c_size_t, buffer, c_size_t]),
        ("phx_gcm", c_int, [c_int, c_char_p, c_size_t, c_char_p, c_char_p, c_size_t, buffer, c_size_t, buffer]),
        ("phx_replay_new", c_void_p, [c_uint32, c_uint64]),
        ("phx_replay_free", None, [c_void_p]),
        ("phx_replay_accept", c_int, [c_void_p, c_uint64]),
    )
    try:
        for name, result, arguments in functions:
            function = getattr(core, name)
            function.restype, function.argtypes = result, arguments
        sizes = [core.phx_size(number) for number in range(5)]
    except AttributeError as error:
        raise EngineError(f"{_STALE}: {error}") from error
    if sizes != [ctypes.sizeof(structure) for structure in (Config, RawUsage, RawPolicy, RawFlow, Wiring)]:
        raise EngineError(_STALE)
    return core


def choose_aead(name: str | None = None) -> str:
    """Who computes AES-GCM for every Core made from now on: "ipsec-mb", "libcrypto", or the fastest that passes its self-test.

    Its name. Raises EngineError where the one asked for is not there or fails its self-test.
    """
    chosen = library().phx_aead(None if name is None else name.encode())
    if not chosen:
        raise EngineError(f"AES-GCM by {name or 'any library'} is not installed here or fails its self-test")
    return str(chosen.decode())


def _check(result: int, what: str) -> None:
    if result < 0:
        raise OSError(-result, f"{what}: {os.strerror(-result)}")


def _destination(sa: Sa) -> int:
    return int.from_bytes(sa.info.destination[:4], "little")  # an in_addr passed by value


class Core:
    """One data plane. Without `run` it has tables but carries nothing."""

    def __init__(self) -> None:
        self._library = library()
        self._engine = self._library.phx_new()
        if not self._engine:
            raise MemoryError("no memory for the engine's tables")
        self._causes = {
            number: self._library.phx_drop_name(number).decode() for number in range(1, self._library.phx_drop_causes())
        }

    def run(self, wiring: Wiring) -> None:
        """Starts the packet threads on these descriptors, for the life of the process. Raises OSError."""
        _check(self._library.phx_run(self._engine, wiring), "the packet threads")

    def failure(self) -> int:
        """0, or the errno for which a packet thread has given up."""
        return int(self._library.phx_failure(self._engine))

    def add(self, sa: Sa) -> None:
        """Installs an SA. Raises OSError."""
        config = Config(
            spi=sa.info.spi,
            reqid=sa.info.reqid,
            source=(c_uint8 * 4)(*sa.info.source[:4]),
            destination=(c_uint8 * 4)(*sa.info.destination[:4]),
            window=sa.window,
            copy_dscp=sa.copy_dscp,
            sequence=0,
            limits=_limits(sa),
            key_length=len(sa.key),
        )
        try:
            if len(sa.key) > KEY_MAX:
                raise OSError(22, "a key longer than AES-256's and its salt")
            ctypes.memmove(config.key, (c_uint8 * len(sa.key)).from_buffer(sa.key), len(sa.key))
            _check(self._library.phx_sa_add(self._engine, sa.direction, config), f"SA {sa.info.spi:#x}")
        finally:
            ctypes.memset(config.key, 0, KEY_MAX)

    def remove(self, sa: Sa) -> Usage:
        """Removes an SA, wipes its keys and says what it carried in all. Raises OSError."""
        raw = RawUsage()
        result = self._library.phx_sa_remove(self._engine, sa.direction, sa.info.spi, _destination(sa), raw)
        _check(result, f"SA {sa.info.spi:#x}")
        return _usage(raw)

    def usage(self, sa: Sa) -> Usage:
        """What an SA has carried so far. Raises OSError."""
        raw = RawUsage()
        result = self._library.phx_sa_usage(self._engine, sa.direction, sa.info.spi, _destination(sa), raw)
        _check(result, f"SA {sa.info.spi:#x}")
        return _usage(raw)

    def limit(self, sa: Sa) -> None:
        """Gives an SA the limits that `sa` now has. Raises OSError."""
        result = self._library.phx_sa_limit(self._engine, sa.direction, sa.info.spi, _destination(sa), _limits(sa))
        _check(result, f"SA {sa.info.spi:#x}")

    def policies(self, direction: Direction, policies: Sequence[Policy]) -> None:
        """Replaces a direction's policies, first match first, all at once. Raises OSError."""
        # Each is made once: a mesh of N instances adds three for each, and all are replaced each time.
        for policy in policies:
            policy.native = policy.native or bytes(_policy(policy))
        raw = (RawPolicy * len(policies)).from_buffer_copy(b"".join(policy.native for policy in policies))
        _check(self._library.phx_policies(self._engine, direction, raw, len(policies)), "policies")

    def wanted(self) -> Sequence[Flow]:
        """Flows that found no SA since the last call."""
        raw = (RawFlow * FLOWS_MAX)()
        count = self._library.phx_wanted(self._engine, raw, FLOWS_MAX)
        return [Flow(flow.policy, flow.family, bytes(flow.source), bytes(flow.destination)) for flow in raw[:count]]

    def drops(self) -> dict[str, int]:
        """Dropped packets by cause, since the engine started."""
        counts = (c_uint64 * self._library.phx_drop_causes())()
        self._library.phx_drops(self._engine, counts)
        return {name: counts[number] for number, name in self._causes.items()}

    def work(self) -> Work:
        """What the packet threads did since the engine started."""
        counts = (c_uint64 * 4)()
        self._library.phx_work(self._engine, counts)
        return Work(counts[0] / 1e9, counts[2] / 1e9, counts[1] + counts[3])

    def pass_packet(self, direction: Direction, packet: bytes) -> bytes | str:
        """One packet through the threads' code, without devices: the result, or the cause for which it was dropped."""
        output = (c_uint8 * (len(packet) + 128))()
        result = self._library.phx_pass(self._engine, direction, packet, len(packet), output, len(output))
        return bytes(output[:result]) if result >= 0 else self._causes[-result]

    def pass_packets(self, direction: Direction, packets: Sequence[bytes]) -> list[bytes]:
        """Packets through the threads' code, together, with segmentation and coalescing; without devices.

        Outbound from offload headers (struct virtio_net_hdr) with packets to ESP with outer headers, inbound the other way.
        """
        data = b"".join(len(packet).to_bytes(4, "little") + packet for packet in packets)
        output = (c_uint8 * (2 * len(data) + 65536))()
        length = self._library.phx_pass_many(self._engine, direction, data, len(data), output, len(output))
        if length < 0:
            raise ValueError("what comes out does not fit")
        found, rest = list[bytes](), bytes(output[:length])
        while rest:
            size = int.from_bytes(rest[:4], "little")
            found.append(rest[4 : 4 + size])
            rest = rest[4 + size :]
        return found

    def close(self) -> None:
        """Wipes and frees a data plane that was never run."""
        self._library.phx_free(self._engine)
        self._engine = None


def _limits(sa: Sa) -> Limits:
    limits = sa.limits
    return Limits(limits.soft_packets, limits.hard_packets, limits.soft_bytes, limits.hard_bytes)


def _usage(raw: RawUsage) -> Usage:
    return Usage(raw.packets, raw.bytes, raw.sequence, raw.replays, raw.integrity_failures, raw.first_used, raw.last_used,
                 bool(raw.soft), bool(raw.hard))  # fmt: skip


def _policy(policy: Policy) -> RawPolicy:
    request, selector = policy.request, policy.request.selector
    raw = RawPolicy(
        family=selector.family,
        source_prefix=selector.source_prefix,
        destination_prefix=selector.destination_prefix,
        source=(c_uint8 * 16)(*selector.source),
        destination=(c_uint8 * 16)(*selector.destination),
        action=0 if request.action == Action.ALLOW else 1,
    )
    if request.action == Action.ALLOW:
        template = request.templates[0]
        raw.spi, raw.reqid = template.spi, template.reqid
        raw.tunnel_source = (c_uint8 * 4)(*template.source[:4])
        raw.tunnel_destination = (c_uint8 * 4)(*template.destination[:4])
    return raw
