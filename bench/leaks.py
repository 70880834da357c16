"""`PYTHONPATH=tests python -m bench.leaks [--write docs/security.md]`: plays the leak suite and shows what it counted.

With `--write`, the table between the markers in that file is replaced. Exit 0 only if nothing was in the clear and every twin
was caught.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from node.leak_lab import Result, results

BEGIN, END = "<!-- leaks: written by bench.leaks -->\n", "<!-- end of leaks -->\n"


def table(found: list[Result]) -> str:
    """The results in Markdown."""
    lines = [
        "| # | scenario | tried in the clear | IKE and ESP | plaintext sent | plaintext crossed | caught in the twin |",
        "|---:|---|---:|---:|---:|---:|---:|",
    ]
    for number, each in enumerate(found, 1):
        stopped = " (stopped by the router)" if each.plain_sent else ""
        counts = f"{each.plain_sent:,}{stopped} | {each.plain_crossed:,} | {each.twin:,}"
        lines.append(f"| {number} | {each.scenario.name} | {each.shouted:,} | {each.cipher:,} | {counts} |")
    tried, crossed = sum(each.shouted for each in found), sum(each.plain_crossed for each in found)
    lines += [
        "",
        f"{len(found)} scenarios, {tried:,} attempts in the clear, {crossed:,} packets in the clear between instances.",
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.leaks", description=__doc__)
    parser.add_argument("--write", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    found = results()
    text = table(found)
    if arguments.write is not None:
        page = arguments.write.read_text()
        pattern = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
        arguments.write.write_text(pattern.sub(lambda _: BEGIN + text + END, page))
    else:
        print(text)
    failed = [each for each in found if not each.holds]
    for each in failed:
        print(f"DOES NOT HOLD: {each.scenario.name}: {each.details}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
