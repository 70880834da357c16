"""Counting what instances put on the wire: an AF_PACKET capture in a router's namespace.

The one packet socket listens on all devices, also on those that come later, to incoming frames only: each frame that an
instance sends counts once, where it enters the router, before any rule of the router. Frames go through a memory-mapped
ring of the kernel (TPACKET_V3, Documentation/networking/packet_mmap.rst), shortened there, so that the counting keeps up.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import select
import socket
import struct
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from phalanx.network import namespace
from phalanx.network.errors import NetworkError
from phalanx.network.frames import ETH_P_ALL, PACKET_STATISTICS, SOL_PACKET, classify, keep, packet_socket, text

HEADERS = 128
"""Bytes of each frame that counting needs: Ethernet, IPv4 with options, ports."""

WHOLE = 14 + 65535
"""Snap length that keeps every frame whole: Ethernet's header and the longest packet that IPv4 has."""

_PACKET_RX_RING, _PACKET_VERSION = 5, 10  # linux/if_packet.h
_TPACKET_V3 = 2
_LOOPBACK = 1  # index of `lo` in every namespace

_BLOCK_BYTES = 1 << 20
_RETIRE_MILLISECONDS = 20
_SETTLE_SECONDS = 5.0
_STATUS, _KERNEL, _USER = 8, 0, 1  # offset of a block's status word, and who owns the block

_BLOCK = struct.Struct("=III")  # block_status, num_pkts, offset_to_first_pkt
_FRAME = struct.Struct("=IIIIIIH")  # tp_next_offset, tp_sec, tp_nsec, tp_snaplen, tp_len, tp_status, tp_mac
_INDEX = struct.Struct("=i")
_INDEX_OFFSET = 48 + 4  # sll_ifindex in the sockaddr_ll behind the tpacket3_hdr
_WORD = struct.Struct("=I")
_PCAP_FILE = struct.Struct("=IHHiIII")
_PCAP_FRAME = struct.Struct("=IIII")
_PCAP_NANOSECONDS = 0xA1B23C4D  # draft-ietf-opsawg-pcap: magic of files with nanosecond timestamps
_LINKTYPE_ETHERNET = 1


_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Flow:
    """Frames of one kind from one address to another; `bytes` counts whole frames with their Ethernet headers.

    `kind` is "ESP", "UDP 500" or "UDP 4500" (that port at both ends), "UDP", "TCP", "ICMP", "IPv6", "ARP", "fragment of …",
    "protocol N" for other IPv4 protocols, or "EtherType 0x…" and then without addresses.
    """

    source: str
    destination: str
    kind: str
    frames: int
    bytes: int


class Capture:
    """Counts, between `start` and `stop` (or in a `with` block), every frame that instances send into a router.

    With `file`, frames are also written there, up to `snaplen` bytes each, as pcap with nanosecond timestamps; a file that is
    made has mode 0600. `ring` is the size of the kernel's buffer in MiB. One object captures once.
    """

    def __init__(self, router: str, file: Path | None = None, snaplen: int = HEADERS, ring: int = 64) -> None:
        self._router = router
        self._file = file
        self._snaplen = max(snaplen, HEADERS)
        self._blocks = ring
        self._counts: dict[tuple[bytes, bytes, str], list[int]] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._seen = self._arrived = self._lost = 0
        self._failure: BaseException | None = None
        self._socket: socket.socket | None = None
        self._ring: mmap.mmap | None = None
        self._output: BinaryIO | None = None

    def start(self) -> None:
        """Capture from now on. Raises NetworkError where the namespace is missing, the kernel refuses, or the file cannot be
        written."""
        if self._file is not None:
            try:
                self._output = open(self._file, "wb", opener=_own)  # noqa: SIM115
                self._output.write(_PCAP_FILE.pack(_PCAP_NANOSECONDS, 2, 4, 0, 0, self._snaplen, _LINKTYPE_ETHERNET))
            except OSError as error:
                self._close()
                raise NetworkError(f"cannot write {self._file}: {error.strerror}") from error
        try:
            with namespace.entered(self._router):
                self._socket = packet_socket([keep(self._snaplen)])
            self._socket.setsockopt(SOL_PACKET, _PACKET_VERSION, _TPACKET_V3)
            size = _BLOCK_BYTES * self._blocks
            frame = 1 << 11  # only bounds the block's layout; V3 packs frames of any length
            request = struct.pack(
                "=7I", _BLOCK_BYTES, self._blocks, frame, size // frame, _RETIRE_MILLISECONDS, 0, 0
            )  # struct tpacket_req3
            self._socket.setsockopt(SOL_PACKET, _PACKET_RX_RING, request)
            self._ring = mmap.mmap(self._socket.fileno(), size)
            self._listen(self._socket)
        except OSError as error:
            self._close()
            raise NetworkError(f"cannot capture in {self._router}: {error}; this needs root (CAP_NET_RAW)") from error
        self._thread = threading.Thread(
            target=self._run, args=(self._socket, self._ring), name=f"capture {self._router}", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End the capture once all that has arrived is counted. Raises NetworkError if frames could not be counted."""
        if self._thread is None:
            return
        try:
            self._settle()
        finally:
            self._stopping.set()
            self._thread.join()
            self._thread = None
            self._close()

    def __enter__(self) -> Capture:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def summary(self) -> tuple[Flow, ...]:
        """All that was sent up to now (or up to `stop`), in order of addresses and kind. Raises NetworkError as `stop` does."""
        if self._thread is not None:
            self._settle()
        with self._lock:
            flows = [
                Flow(text(source), text(destination), kind, frames, size)
                for (source, destination, kind), (frames, size) in self._counts.items()
            ]
        return tuple(sorted(flows, key=lambda flow: (flow.source, flow.destination, flow.kind)))

    @property
    def lost(self) -> int:
        """Frames that arrived but found the ring full, by the kernel's own count (PACKET_STATISTICS). 0 means: all counted."""
        with self._lock:
            self._statistics()
            return self._lost

    def _listen(self, opened: socket.socket) -> None:
        # socket.bind() wants the name of one device; interface 0 means all, also those to come (packet(7)).
        everywhere = struct.pack("=HHiHBB8x", socket.AF_PACKET, socket.htons(ETH_P_ALL), 0, 0, 0, 0)
        if _libc.bind(opened.fileno(), everywhere, len(everywhere)) != 0:
            raise OSError(ctypes.get_errno(), "bind")

    def _settle(self) -> None:
        """Wait until every frame that has arrived so far is counted."""
        with self._lock:
            self._statistics()
            target = self._arrived
        deadline = time.monotonic() + _SETTLE_SECONDS
        while self._seen < target and self._failure is None:
            if time.monotonic() > deadline:
                raise NetworkError(f"capture in {self._router}: {target - self._seen} frames arrived but were not counted")
            time.sleep(_RETIRE_MILLISECONDS / 1000)
        if self._failure is not None:
            raise NetworkError(f"capture in {self._router} has failed: {self._failure}") from self._failure

    def _statistics(self) -> None:
        """Add what the kernel has counted since it was last asked; reading resets it."""
        if self._socket is not None:
            arrived, lost, _ = struct.unpack("=III", self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 12))
            self._arrived += arrived - lost
            self._lost += lost

    def _run(self, opened: socket.socket, ring: mmap.mmap) -> None:
        try:
            self._read(opened, ring)
        except BaseException as error:
            self._failure = error

    def _read(self, opened: socket.socket, ring: mmap.mmap) -> None:
        poll = select.poll()
        poll.register(opened, select.POLLIN | select.POLLERR)
        block = 0
        while True:
            base = block * _BLOCK_BYTES
            if _WORD.unpack_from(ring, base + _STATUS)[0] & _USER:
                with self._lock:
                    self._count(ring, base)
                _WORD.pack_into(ring, base + _STATUS, _KERNEL)
                block = (block + 1) % self._blocks
            elif self._stopping.is_set():
                return
            else:
                poll.poll(_RETIRE_MILLISECONDS)

    def _count(self, ring: mmap.mmap, base: int) -> None:
        counts, output = self._counts, self._output
        _, frames, offset = _BLOCK.unpack_from(ring, base + _STATUS)
        at = base + offset
        for _ in range(frames):
            step, seconds, nanoseconds, kept, length, _, mac = _FRAME.unpack_from(ring, at)
            if _INDEX.unpack_from(ring, at + _INDEX_OFFSET)[0] != _LOOPBACK:
                start = at + mac
                flow = counts.setdefault(classify(ring[start : start + min(kept, HEADERS)]), [0, 0])
                flow[0] += 1
                flow[1] += length
                if output is not None:
                    output.write(_PCAP_FRAME.pack(seconds, nanoseconds, kept, length))
                    output.write(ring[start : start + kept])
            at += step
        if output is not None:
            output.flush()
        self._seen += frames

    def _close(self) -> None:
        with self._lock:
            if self._ring is not None:
                self._ring.close()
            if self._output is not None:
                # What could not be written has made the capture fail already; closing only tries it again.
                with suppress(OSError):
                    self._output.close()
            if self._socket is not None:
                self._statistics()
                self._socket.close()
            self._ring = self._output = self._socket = None


def _own(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
