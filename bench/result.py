"""What a case measured, and how it is shown and written."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

OUT = Path(__file__).with_name("out") / "results.json"


@dataclass(frozen=True)
class Result:
    """A case. `pairs` are (value, baseline) of each run, measured in turns; the ratio is the median of the runs' ratios."""

    case: str
    unit: str
    what: str
    against: str
    pairs: Sequence[tuple[float, float]]

    @property
    def value(self) -> float:
        return statistics.median(value for value, _ in self.pairs)

    @property
    def baseline(self) -> float:
        return statistics.median(baseline for _, baseline in self.pairs)

    @property
    def ratios(self) -> list[float]:
        return [value / baseline for value, baseline in self.pairs]

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)


def show(results: Iterable[Result]) -> None:
    """Prints a table."""
    print(f"\n{'case':<26}{'value':>9}{'baseline':>10} {'unit':<8}{'ratio':>7}  {'min - max':<14} {'runs':>4}  what")
    for each in results:
        span = f"{min(each.ratios):.2f} - {max(each.ratios):.2f}"
        print(
            f"{each.case:<26}{each.value:>9.2f}{each.baseline:>10.2f} {each.unit:<8}{each.ratio:>7.2f}  {span:<14} "
            f"{len(each.pairs):>4}  {each.what} / {each.against}"
        )


def write(results: Iterable[Result]) -> None:
    """Writes bench/out/results.json: `{case: {"value", "unit", "baseline", "ratio", "runs"}}`, and what is compared."""
    OUT.parent.mkdir(exist_ok=True)
    table = {
        each.case: {
            "value": round(each.value, 4),
            "unit": each.unit,
            "baseline": round(each.baseline, 4),
            "ratio": round(each.ratio, 4),
            "runs": len(each.pairs),
            "ratios": [round(ratio, 4) for ratio in each.ratios],
            "what": each.what,
            "against": each.against,
        }
        for each in results
    }
    OUT.write_text(json.dumps(table, indent=2) + "\n")
    print(f"\nwritten to {OUT}")
