"""What is measured between two hosts: throughput with iperf3, and the time of a 1-byte request and response."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench.lab import Host

PORT = 5201
REST_SECONDS = 2.0
"""How long the machine is left alone before latency is measured: after a crowd the engine sleeps where it would stay awake."""
_ECHO = Path(__file__).with_name("echo.py")


class Servers:
    """An iperf3 server and an echo server on a host, all its addresses."""

    def __init__(self, host: Host) -> None:
        host.start("iperf3", "-s", "-p", str(PORT))
        host.start(sys.executable, str(_ECHO), "serve", str(PORT + 1))
        self._await(host, PORT)
        self._await(host, PORT + 1)

    @staticmethod
    def _await(host: Host, port: int) -> None:
        for _ in range(200):
            if f":{port} " in host.run("ss", "-Hltn").stdout:
                return
            time.sleep(0.02)
        raise RuntimeError(f"nothing listens on port {port}")


def throughput(
    client: Host, address: str, *, streams: int = 1, seconds: float = 3, reverse: str = "", port: int = PORT
) -> float:
    """Gbit/s that the receivers got over TCP, the first half second left out."""
    command = ["iperf3", "-J", "-c", address, "-p", str(port), "-P", str(streams), "-t", str(seconds), "-O", "0.5"]
    for _ in range(3):
        done = client.run(*command, *reverse.split(), check=False, timeout=seconds + 30)
        try:
            report = json.loads(done.stdout)
            sums = [value for key, value in report["end"].items() if key.startswith("sum_received")]
            total = sum(each["bits_per_second"] for each in sums) / 1e9
            if total > 0:
                return total
        except (ValueError, KeyError):
            time.sleep(0.3)
    raise RuntimeError(f"iperf3 to {address} failed: {done.stdout[-300:]}{done.stderr}")


def latency(client: Host, address: str) -> float:
    """Median microseconds from sending one byte over TCP to receiving one, where nothing else is going on."""
    time.sleep(REST_SECONDS)
    done = client.run(sys.executable, str(_ECHO), "ask", address, str(PORT + 1), "3000", timeout=120)
    return statistics.median(float(line) for line in done.stdout.split())


def await_echo(client: Host, address: str, log: Path) -> None:
    """Waits until a byte comes back from the echo server behind a tunnel whose daemon writes to `log`."""
    try:
        client.run(sys.executable, str(_ECHO), "ask", address, str(PORT + 1), "1", timeout=10)
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        raise RuntimeError(f"nothing passes the tunnel to {address}: {log.read_text(errors='replace')[-800:]}") from error
