"""What this host can do for encrypted jobs, found out by doing it, and which data plane follows from that."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from phalanx.ipsec import guard, netns
from phalanx.ipsec.charon import DAEMON, OPTIONAL, PLUGINS, plugin
from phalanx.ipsec.engine import core, devices
from phalanx.ipsec.engine.errors import EngineError
from phalanx.ipsec.errors import MeshError
from phalanx.ipsec.model import PlaneName

Purpose = Literal["guard", "ike", "kernel", "engine", "volume", "containers", "FastFile", "keys", "speed"]

_DEVICE, _ADDRESS, _PEER = "probe0", "192.0.2.1", "192.0.2.2"
_TCP = Path("/proc/sys/net/ipv4")
_TIMEOUT = 10.0


class Unprotected(MeshError):
    """This host cannot run encrypted jobs; the text says what is missing and what to do."""


@dataclass(frozen=True, slots=True)
class Capability:
    """One thing that was tried: what needs it, what was seen, and what to do where it failed."""

    name: str
    purpose: Purpose
    ok: bool
    detail: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Everything that was tried, in the order in which it is worth reading."""

    all: tuple[Capability, ...]

    def missing(self, *purposes: Purpose) -> tuple[Capability, ...]:
        """What failed of that which these purposes need."""
        return tuple(each for each in self.all if each.purpose in purposes and not each.ok)


def probe() -> Capabilities:
    """Try everything, in a network namespace that is thrown away; takes some tens of milliseconds and needs root."""
    outside: list[Capability] = [
        _try("charon", "ike", _charon, "install strongswan-charon, strongswan-swanctl and libstrongswan-standard-plugins"),
        _try("AES-256-GCM", "engine", _cipher, "install libssl3 and the package with its native part"),
        _try(
            "XFRM shim",
            "engine",
            _shim,
            "install the package with its native part; where AppArmor confines charon, its profile must allow the shim and"
            " /run/xfrm.sock (docs/operations.md)",
        ),
    ]
    try:
        within = netns.throwaway(
            lambda here: [
                _try(
                    "network namespaces",
                    "guard",
                    _wire,
                    "run as root; install iproute2; the kernel needs CONFIG_NET_NS and CONFIG_VETH",
                ),
                _try("XFRM policies", "guard", lambda: _policies(here), "the kernel needs CONFIG_XFRM_USER"),
                _try("XFRM statistics", "guard", lambda: _statistics(here), "the kernel needs CONFIG_XFRM_STATISTICS"),
                _try(
                    "nftables inet",
                    "guard",
                    _nftables,
                    "install nftables; the kernel needs CONFIG_NF_TABLES_INET, CONFIG_NFT_CT and CONFIG_NFT_CONNLIMIT",
                ),
                _try("kernel ESP", "kernel", _esp, "modprobe esp4; the kernel needs CONFIG_INET_ESP and CONFIG_CRYPTO_GCM"),
                _try("TUN with offloads", "engine", _tun, "/dev/net/tun must be there; the kernel needs CONFIG_TUN"),
                _try("raw ESP socket", "engine", lambda: _raw(here), "run as root (CAP_NET_RAW, CAP_NET_ADMIN)"),
                _try("CUBIC for TCP", "speed", _cubic, "the kernel needs CONFIG_TCP_CONG_CUBIC"),
            ]
        )
    except OSError as error:
        within = [Capability("network namespaces", "guard", False, str(error), "run as root (CAP_SYS_ADMIN)")]
    return Capabilities((*within, *outside))


def choose(capabilities: Capabilities) -> PlaneName:
    """The data plane of this host: the kernel where it has ESP, else our engine.

    Raises Unprotected where a guard or IKE is missing, or neither plane is possible: there is no way without.
    """
    if missing := capabilities.missing("guard", "ike"):
        raise Unprotected(f"this host cannot protect encrypted jobs: {_faults(missing)}")
    if not (kernel := capabilities.missing("kernel")):
        return "kernel"
    if not (engine := capabilities.missing("engine")):
        return "engine"
    raise Unprotected(f"this host has no data plane for encrypted jobs: {_faults(kernel)}; instead of it: {_faults(engine)}")


def explain(capabilities: Capabilities) -> str:
    """Which data plane, and why, in a sentence."""
    try:
        plane = choose(capabilities)
    except Unprotected as error:
        return f"none: {error}"
    if plane == "kernel":
        return "kernel: the kernel has ESP with AES-256-GCM and ESN"
    return f"engine: the kernel cannot carry ESP itself ({capabilities.missing('kernel')[0].detail})"


def _faults(missing: tuple[Capability, ...]) -> str:
    return "; ".join(f"{each.name}: {each.detail} ({each.remedy})" for each in missing)


def _try(name: str, purpose: Purpose, action: Callable[[], str], remedy: str) -> Capability:
    try:
        return Capability(name, purpose, True, action(), remedy)
    except (OSError, MeshError, EngineError, subprocess.SubprocessError) as error:
        return Capability(name, purpose, False, str(error), remedy)


def _run(*command: str, text: str = "") -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    if done.returncode != 0:
        raise OSError(f"{command[0]}: {(done.stderr or done.stdout).strip()}")
    return done.stdout.strip()


def _wire() -> str:
    lines = (
        "link set lo up",
        f"link add {_DEVICE} type veth peer name probe1",
        f"address add {_ADDRESS}/32 dev {_DEVICE}",
        f"link set {_DEVICE} up",
        "link set probe1 up",
        f"route add {_PEER}/32 dev {_DEVICE} src {_ADDRESS}",
    )
    _run("ip", "-batch", "-", text="\n".join(lines) + "\n")
    return "made one, with a veth pair in it"


def _connect() -> None:
    """Route a datagram to the peer without sending one: where a policy blocks, EPERM comes here."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
        datagram.connect((_PEER, 9))


def _policies(here: str) -> str:
    _connect()
    guard.up(here, [_PEER], _DEVICE)
    try:
        _connect()
    except PermissionError:
        return "a block policy refuses plaintext with EPERM"
    finally:
        guard.down(here, [_PEER])
    raise MeshError("a block policy lets packets pass")


def _statistics(here: str) -> str:
    # `_policies` has just had something refused.
    count = netns.xfrm_statistics(here).get("XfrmOutPolBlock", 0)
    if not count:
        raise MeshError("what a block policy refuses is not counted")
    return f"counted what a block policy refused ({count})"


def _nftables() -> str:
    _run(
        *("nft", "--file", "-"),
        text="""\
table inet probe {
  set members { type ipv4_addr; }
  set flows { type ipv4_addr; size 16; flags dynamic; }
  chain forward {
    type filter hook forward priority filter; policy drop;
    ct state established,related accept
    ct state new add @flows { ip saddr ct count over 4 } drop
    ip saddr @members ip daddr @members meta l4proto esp counter accept
    tcp flags syn tcp option maxseg size set rt mtu
  }
}
""",
    )
    return _run("nft", "--version")


def _esp() -> str:
    # Not a secret: the SA goes with the namespace.
    _run(
        *("ip", "xfrm", "state", "add", "src", _ADDRESS, "dst", _PEER, "proto", "esp", "spi", "0x100", "mode", "tunnel"),
        *("flag", "esn", "replay-window", "4096", "aead", "rfc4106(gcm(aes))", f"0x{'00' * 36}", "128"),
    )
    return "took an SA with AES-256-GCM, ESN and a window of 4096 packets"


def _tun() -> str:
    descriptor, bundles = devices.open_tun("probe2")
    os.close(descriptor)
    return f"made a TUN device that takes and gives streams of TCP{' and UDP' if bundles else ''} whole"


def _raw(here: str) -> str:
    guard.up(here, [_PEER], _DEVICE)
    try:
        with devices.open_raw(_DEVICE, _ADDRESS, devices.device_mtu(_DEVICE)) as raw:
            header = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 0, 0, 0, 64, 50, 0, *map(socket.inet_aton, (_ADDRESS, _PEER)))
            raw.sendto(header + bytes(16), (_PEER, 0))
    finally:
        guard.down(here, [_PEER])
    return "sends past the guard by a policy of its own"


def _cubic() -> str:
    """Jobs run without it too, only somewhat slower where the host's own choice is BBR."""
    # Loads the module, also where a namespace may not have it but by its routes.
    with contextlib.suppress(OSError):
        (_TCP / "tcp_congestion_control").write_text("cubic")
    if "cubic" not in (_TCP / "tcp_available_congestion_control").read_text().split():
        raise OSError(f"instances have {(_TCP / 'tcp_congestion_control').read_text().strip()}, the host's choice")
    return "instances have it, whatever the host has"


def _charon() -> str:
    version = _run(str(DAEMON), "--version")
    if missing := [name for name in PLUGINS if not plugin(name).exists()]:
        raise OSError(errno.ENOENT, f"strongSwan lacks the plugins {' '.join(missing)}")
    there = [name for name in OPTIONAL if plugin(name).exists()]
    return f"{version}, {'with the plugin ml (ML-KEM)' if there else 'without the plugin ml (ML-KEM)'}"


def _shim() -> str:
    # What AppArmor keeps from charon the dynamic linker leaves out, with a word: charon would talk to the kernel instead.
    shim = str(core.built("_xfrm_shim"))
    said = _run("sh", "-c", 'LD_PRELOAD="$1" exec "$2" --version 2>&1', "sh", shim, str(DAEMON))
    if "cannot be preloaded" in said:
        raise MeshError(next(line for line in said.splitlines() if "cannot be preloaded" in line))
    return f"charon takes {shim}"


def _cipher() -> str:
    # The core tests each library with published vectors and a forged tag before it lets it near a packet.
    return f"{core.choose_aead()} passes its self-test"
