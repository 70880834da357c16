"""The agent's process: `python -m phalanx.node --data-dir DIR --images DIR`. Runs as root; SIGTERM ends it."""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import sys
import threading
from functools import partial
from pathlib import Path

import structlog

from phalanx.linux.signals import Signals
from phalanx.node import logging, memory
from phalanx.node.agent import REGISTRIES, Agent
from phalanx.node.names import Names
from phalanx.node.protocol import LINE_LIMIT, LineServer, answer
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
    memory.mount(names.run_dir)
    lock = os.open(names.run_dir / "agent.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(f"a node agent already serves {options.data_dir}")
    agent = Agent.of(names, options.images, frozenset(os.environ.get(REGISTRIES, "").split()))
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
        memory.unmount(names.run_dir)


if __name__ == "__main__":
    main()
