"""`PYTHONPATH=tests python -m bench.crash [--minutes 30] [--seed N] [--postgresql [--replicas 2]]`: kills any process.

It does so over a queue of jobs, and prints what was killed and how the jobs ended; exit 0 only if every acknowledged job ended
as it should, exactly once, nothing was in the clear, and nothing of the service is left on the host.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from pathlib import Path

from e2e.conftest import running
from e2e.crash import crash
from postgres import Postgres


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.crash", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=9)
    parser.add_argument("--postgresql", action="store_true", help="keep jobs in PostgreSQL, and kill its processes too")
    parser.add_argument("--replicas", type=int, default=1, help="services on one PostgreSQL, each of which may be hit")
    arguments = parser.parse_args()
    if arguments.replicas > 1 and not arguments.postgresql:
        parser.error("replicas share a PostgreSQL: --postgresql")
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="phalanx-crash-")))
        options, others = (), {}
        if arguments.postgresql:
            server = Postgres()
            stack.callback(server.close)
            server.start()
            options, others = ("--database", server.fresh("phalanx")), {"PostgreSQL": server.sessions}
        service = stack.enter_context(running(directory, *options))
        replicas = [service.replica() for _ in range(arguments.replicas - 1)]
        for replica in replicas:
            stack.callback(replica.end)
            replica.start()
        found = crash(service, arguments.minutes * 60, arguments.seed, others=others, replicas=replicas)
        print(found, flush=True)
    # `running` itself has failed where the stopped service left anything behind.
    print("holds" if not found.wrong else "DOES NOT HOLD")
    return 0 if not found.wrong else 1


if __name__ == "__main__":
    sys.exit(main())
