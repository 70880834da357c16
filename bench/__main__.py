"""`python -m bench`: runs the suites and writes bench/out/results.json."""

from __future__ import annotations

import argparse
import importlib
import os
import sys

from bench import result

SUITES = ("engine", "network", "api", "tuning", "mesh", "algorithms")
"""Modules of this package with `run(quick, chosen) -> list[Result]`."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--only", choices=SUITES, help="this suite alone")
    parser.add_argument("--case", action="append", default=[], help="these cases alone (may be repeated)")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs: for development, not for publication")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        print("the benchmarks make network namespaces: run them as root", file=sys.stderr)
        return 1
    results: list[result.Result] = []
    for suite in SUITES if arguments.only is None else (arguments.only,):
        results += importlib.import_module(f"bench.{suite}").run(arguments.quick, arguments.case)
    result.show(results)
    result.write(results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
