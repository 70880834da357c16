"""The engine process of one instance; `Engine` in process.py starts it inside the instance's network namespace."""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import socket
import sys
import time
from ctypes import c_uint8
from ipaddress import IPv4Address
from pathlib import Path

from phalanx.ipsec.engine import devices, sandbox, server
from phalanx.ipsec.engine.core import Core, Wiring, choose_aead
from phalanx.ipsec.engine.dispatch import Dispatcher
from phalanx.ipsec.engine.errors import EngineError
from phalanx.ipsec.engine.process import CONTROL_SOCKET, LOCK, READY, XFRM_SOCKET
from phalanx.ipsec.engine.tables import Tables
from phalanx.linux.signals import Signals

BATCH_BYTES = 512 * 1024
"""What the engine takes from the network at once, at most: what a core's cache holds, so that it is still there when opened."""
BATCH_MIN, BATCH_MAX = 8, 64


def _log(text: str) -> None:
    print(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), text, file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="phalanx.ipsec.engine", description="ESP in userspace for one instance")
    parser.add_argument("--rundir", type=Path, required=True)
    parser.add_argument("--address", required=True)
    parser.add_argument("--peer", action="append", default=[])
    parser.add_argument("--device", required=True)
    parser.add_argument("--tun", required=True)
    parser.add_argument("--aead")
    parser.add_argument("--udp-port", type=int)
    parser.add_argument("--mtu", type=int)
    parser.add_argument("--ready", type=int, required=True, help="descriptor that is told when the engine is ready, or why not")
    return parser.parse_args()


def _open(arguments: argparse.Namespace) -> server.Server:
    """Opens everything, gives up all rights, starts the packet threads."""
    lock = os.open(arguments.rundir / LOCK, os.O_RDWR | os.O_CLOEXEC)  # held until the process ends
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise EngineError(f"another engine runs in {arguments.rundir}") from error
    if not sandbox.lock_memory():
        _log("memory cannot be locked here and the host has swap: keys may reach it")
    aead = choose_aead(arguments.aead)
    core = Core()
    outer, port = devices.device_mtu(arguments.device), arguments.udp_port
    if port is None:
        outer = devices.packet_size(outer)
    mtu = devices.inner_mtu(outer, udp=port is not None)
    if arguments.mtu is not None:
        mtu = min(mtu, arguments.mtu)
    tun, udp_offload = devices.open_tun(arguments.tun)
    devices.configure(arguments.tun, arguments.address, arguments.peer, mtu, arguments.device)
    if port is None:
        net = devices.open_raw(arguments.device, arguments.address, devices.sealed_size(mtu))
    else:
        net = devices.open_udp(arguments.device, arguments.address, port)
    event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    os.umask(0o077)
    xfrm = server.listen(arguments.rundir / XFRM_SOCKET, socket.SOCK_SEQPACKET)
    control = server.listen(arguments.rundir / CONTROL_SOCKET, socket.SOCK_STREAM)
    names = ("address", "device", "tun", "aead", "udp_port", "mtu")
    settings = {"peers": arguments.peer, **{name: getattr(arguments, name) for name in names}}
    dispatcher = Dispatcher(Tables(arguments.address, core))
    ends = Signals(signal.SIGTERM, signal.SIGINT).fileno()
    serving = server.Server(dispatcher, core, xfrm, control, event, ends, settings, _log)
    sandbox.drop_privileges()
    core.run(
        Wiring(
            tun=tun,
            net=net.detach(),
            event=event,
            address=(c_uint8 * 4)(*IPv4Address(arguments.address).packed),
            port=port or 0,
            batch=max(BATCH_MIN, min(BATCH_MAX, BATCH_BYTES // outer)) if port is None else BATCH_MIN,
            udp_offload=udp_offload,
        )
    )
    where = f"{arguments.device}, {'IP protocol 50' if port is None else f'UDP port {port}'}"
    _log(
        f"carries ESP for {arguments.address} on {where}, inner MTU {mtu}, peers {' '.join(arguments.peer)}; AES-GCM by {aead}"
    )
    return serving


def main() -> int:
    """Leaves its starter, serves until SIGTERM, and dies rather than carry on half."""
    arguments = _arguments()
    if os.fork():
        return 0
    os.chdir("/")
    ready = os.fdopen(arguments.ready, "wb", buffering=0)
    try:
        serving = _open(arguments)
    except (EngineError, OSError, MemoryError) as error:
        _log(str(error))
        ready.write(str(error).encode())
        return 1
    ready.write(READY)
    ready.close()
    try:
        serving.serve()
    except EngineError as error:
        _log(str(error))
        return 1
    _log("stopped")
    return 0


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    os._exit(status)  # the packet threads do not end by themselves
