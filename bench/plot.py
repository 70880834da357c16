"""`python -m bench.plot FILE.svg`: the ratios of bench/out/results.json as bars, with the range of the runs."""

from __future__ import annotations

import json
import sys
from html import escape
from pathlib import Path

from bench.result import OUT

ROW, LEFT, WIDTH, TOP = 26, 190, 560, 34


def draw(results: dict[str, dict[str, object]]) -> str:
    """One bar per case against plain veth; cases against rivals have a scale of their own."""
    plain = {name: each for name, each in results.items() if not name.startswith("vs-") and name != "latency"}
    rivals = {name: each for name, each in results.items() if name.startswith("vs-")}
    height = TOP * 2 + ROW * (len(plain) + len(rivals)) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 70}" height="{height}" '
        'font-family="sans-serif" font-size="13"><rect width="100%" height="100%" fill="white"/>'
    ]
    y = 0
    for title, group in (("Throughput, encrypted / plain veth", plain), ("Throughput, engine / rival", rivals)):
        parts.append(f'<text x="10" y="{y + 22}" font-weight="bold">{title}</text>')
        y += TOP
        top = max([1.0, *(max(each["ratios"]) for each in group.values())])
        for name, each in group.items():
            low, high, ratio = (WIDTH * value / top for value in (min(each["ratios"]), max(each["ratios"]), each["ratio"]))
            parts.append(f'<text x="10" y="{y + 17}">{escape(name)}</text>')
            parts.append(f'<rect x="{LEFT}" y="{y + 4}" width="{ratio:.0f}" height="{ROW - 8}" fill="#2a6fbb"/>')
            parts.append(f'<path d="M{LEFT + low:.0f} {y + 13}H{LEFT + high:.0f}" stroke="black" stroke-width="2"/>')
            parts.append(f'<text x="{LEFT + max(high, ratio) + 6:.0f}" y="{y + 17}">{each["ratio"]:.2f}</text>')
            y += ROW
    return "\n".join([*parts, "</svg>\n"])


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(draw(json.loads(OUT.read_text())))
