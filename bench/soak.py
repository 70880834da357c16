"""`PYTHONPATH=tests python -m bench.soak [--minutes 10]`: full load both ways through two engines while real charons rekey.

Prints a line per minute and what it found; exit 0 only if no TCP connection was reset, no more pings were lost in the tunnel
than beside it, every rekey took place and neither engine's memory grew.
"""

from __future__ import annotations

import argparse
import json
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from scapy.layers.inet import ICMP

from ipsec.engine.testbed import Site, Testbed, inside

REKEY_SECONDS = 5
PING_SECONDS, WAIT_SECONDS = 0.1, 5.0
SETTLED = 60
"""Seconds after which an engine has touched all the memory that it will need."""
GROWTH_KB = 512
"""What an engine's resident memory may differ after that: the interpreter's own ups and downs."""
RESETS = ("AttemptFails", "EstabResets", "OutRsts")


def resets(site: Site) -> int:
    """TCP connections of an instance that were reset or refused, or for which it has sent a reset."""
    names, values = (line.split() for line in site.run("grep", "^Tcp:", "/proc/thread-self/net/snmp").stdout.splitlines())
    return sum(int(value) for name, value in zip(names, values, strict=True) if name in RESETS)


def memory(site: Site) -> int:
    """KB that the engine of an instance has in memory."""
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{site.engine_pid()}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


class Pings(threading.Thread):
    """ICMP echo requests from an address of an instance to another, one each PING_SECONDS, and what became of them."""

    def __init__(self, site: Site, source: str, destination: str, number: int) -> None:
        super().__init__()
        with inside(site.netns):
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        self._socket.bind((source, 0))
        self._socket.settimeout(WAIT_SECONDS)
        self._destination, self._number = destination, number
        self.times: list[float] = []
        """Seconds of those that were answered."""
        self.lost = 0
        self.stop = threading.Event()

    def run(self) -> None:
        sequence = 0
        while not self.stop.wait(PING_SECONDS):
            sequence = (sequence + 1) & 0xFFFF
            request = bytes(ICMP(type=8, id=self._number, seq=sequence) / b"soak")
            sent = time.monotonic()
            self._socket.sendto(request, (self._destination, 0))
            try:
                while self._socket.recv(2048)[20:][4:] != request[4:]:
                    pass
                self.times.append(time.monotonic() - sent)
            except TimeoutError:
                self.lost += 1
        self._socket.close()

    def end(self) -> str:
        self.stop.set()
        self.join()
        times = sorted(self.times)
        asked, median, worst = len(times) + self.lost, times[len(times) // 2] * 1e3, times[-1] * 1e3
        return f"{self.lost} of {asked}, median {median:.2f} ms, worst {worst:.0f} ms"


def soak(bed: Testbed, seconds: int) -> bool:
    """Whether it holds; says so."""
    beside = [site.address.rsplit(".", 1)[0] + ".3" for site in bed.sites]
    for site, address in zip(bed.sites, beside, strict=True):
        site.run("ip", "address", "add", f"{address}/32", "dev", "eth0")
    bed.establish()
    server = bed.b.spawn("iperf3", "-s", "-1", stdout=subprocess.DEVNULL)
    while ":5201 " not in bed.b.run("ss", "-Hltn").stdout:
        time.sleep(0.02)
    before = [site.report() for site in bed.sites]
    first_resets = sum(map(resets, bed.sites))
    command = ["iperf3", "-J", "--bidir", "-c", bed.b.address, "-t", str(seconds + 5)]
    load = bed.a.spawn(*command, stdout=subprocess.PIPE, text=True)
    through, past = Pings(bed.a, bed.a.address, bed.b.address, 1), Pings(bed.a, beside[0], beside[1], 2)
    through.start()
    past.start()
    begun, rekeys, settled = time.monotonic(), 0, [0, 0]
    while (passed := time.monotonic() - begun) < seconds:
        bed.sites[rekeys % 2].charon.rekey()
        rekeys += 1
        if passed >= min(SETTLED, seconds / 2) and not settled[0]:
            settled = [memory(site) for site in bed.sites]
        if rekeys % (60 // REKEY_SECONDS) == 0:
            sizes = ", ".join(f"{memory(site)} kB" for site in bed.sites)
            print(f"{passed:5.0f} s: {rekeys} rekeys, engines' memory {sizes}", flush=True)
        time.sleep(max(0.0, begun + rekeys * REKEY_SECONDS - time.monotonic()))
    found_resets = sum(map(resets, bed.sites)) - first_resets
    grown = [memory(site) - size for site, size in zip(bed.sites, settled, strict=True)]
    pings = f"{through.end()} through the tunnel; {past.end()} beside it"
    report = json.loads(load.communicate(timeout=60)[0])
    server.wait(60)
    rates = [report["end"][name]["bits_per_second"] / 1e9 for name in ("sum_received", "sum_received_bidir_reverse")]
    carried, installed = [], []
    for old, site in zip(before, bed.sites, strict=True):
        new = site.report()
        installed.append(new.totals[site.peer].installed - old.totals[site.peer].installed)
        carried.append({cause: count - old.drops[cause] for cause, count in new.drops.items() if count != old.drops[cause]})
    print(f"load: {rates[0]:.2f} and {rates[1]:.2f} Gbit/s, {load.returncode=}")
    print(f"rekeys: {rekeys} asked for, {installed} SAs installed; packets dropped by the engines: {carried}")
    print(f"TCP resets: {found_resets}")
    print(f"pings lost: {pings}")
    print(f"memory: {settled} kB after {SETTLED} s, {grown} kB more at the end")
    return (
        load.returncode == 0
        and found_resets == 0
        and through.lost <= past.lost
        and min(installed) >= rekeys
        and max(grown) <= GROWTH_KB
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    arguments = parser.parse_args()
    bed = Testbed()
    try:
        holds = soak(bed, int(arguments.minutes * 60))
    finally:
        bed.close()
    print("holds" if holds else "DOES NOT HOLD")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
