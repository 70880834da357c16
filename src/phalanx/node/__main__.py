"""The agent's process: `python -m phalanx.node --data-dir DIR --images DIR`. Runs as root; SIGTERM ends it."""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import structlog

from phalanx.node import logging
from phalanx.node.agent import REGISTRIES, Agent
from phalanx.node.names import Names
from phalanx.node.protocol import LINE_LIMIT, LineServer, answer
from phalanx.node.signals import Signals
from phalanx.node.terms import Terms

log = structlog.get_logger()


def main() -> None:
    """Serve until SIGTERM. A second agent of the same service ends at once."""
    parser = argparse.ArgumentParser(prog="phalanx.node")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    options = parser.parse_args()
    logging.configure()
    # From the start: what was begun is ended in order, with nothing left mounted.
    signals = Signals(signal.SIGTERM)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    names = Names(options.data_dir)
    _mount(names.run_dir)
    lock = os.open(names.run_dir / "agent.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(f"a node agent already serves {options.data_dir}")
    agent = Agent(names, options.images, frozenset(os.environ.get(REGISTRIES, "").split()))
    agent.recover()
    names.agent_socket.unlink(missing_ok=True)
    # Bound under another name first: whoever finds the socket finds it answering.
    starting = names.agent_socket.with_suffix(".new")
    starting.unlink(missing_ok=True)
    server = LineServer(starting, partial(answer, agent, terms=Terms(names.term)), LINE_LIMIT)
    starting.rename(names.agent_socket)
    serving = threading.Thread(target=server.serve_forever, args=(0.1,), name="calls")
    serving.start()
    log.info("agent ready", data_dir=str(options.data_dir))
    signals.wait()
    server.shutdown()
    serving.join()
    names.agent_socket.unlink(missing_ok=True)
    agent.close()
    if agent.empty():
        os.close(lock)
        _unmount(names.run_dir)


def _mount(run_dir: Path) -> None:
    """Make the run directory a tmpfs of its own: keys live in memory, and go with the mount."""
    run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not run_dir.is_mount():
        options = "mode=0700,nosuid,nodev,noexec,size=512m"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "phalanx", str(run_dir)], check=True)


def _unmount(run_dir: Path) -> None:
    subprocess.run(["umount", "--lazy", str(run_dir)], check=True)
    run_dir.rmdir()


if __name__ == "__main__":
    main()
