"""`PYTHONPATH=tests python -m bench.crash [--minutes 30] [--seed N]`: kills any process of a service over a queue of jobs.

Prints what was killed and how the jobs ended; exit 0 only if every acknowledged job ended as it should, exactly once, nothing
was in the clear, and nothing of the service is left on the host.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from e2e.conftest import running
from e2e.crash import crash


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.crash", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=9)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="phalanx-crash-") as directory, running(Path(directory)) as service:
        found = crash(service, arguments.minutes * 60, arguments.seed)
        print(found, flush=True)
    # `running` itself has failed where the stopped service left anything behind.
    print("holds" if not found.wrong else "DOES NOT HOLD")
    return 0 if not found.wrong else 1


if __name__ == "__main__":
    sys.exit(main())
