"""What encryption cost a job in time: an estimate from the work that its data planes counted."""

from __future__ import annotations

from dataclasses import dataclass

from phalanx.store.base import Json

WAKE_SECONDS = 50e-6
"""From a packet's arrival until a sleeping data plane runs: what a virtual machine needs (docs/performance.md), others less."""


@dataclass(frozen=True, slots=True)
class Cost:
    """By how many seconds a job took longer than it would have in the clear.

    `least`: instances computed while packets were on their way, on CPUs that nobody else wanted. `likely`: the instances waited
    for each packet, as in synchronous training. `most`: they also waited for one another's, as where all share their CPUs.
    `bytes` are those between the instances, without what IPsec adds.
    """

    least: float
    likely: float
    most: float
    bytes: int


def estimate(report: Json) -> Cost | None:
    """The cost of the job with that report (jobs/evidence.py); None where its data plane counted no work."""
    spent = []
    for instance in report["instances"]:
        work = instance.get("work")
        if work is None:
            return None
        spent.append((work["milliseconds_in"] + work["milliseconds_out"]) / 1000 + work["wakes"] * WAKE_SECONDS)
    return Cost(0.0, max(spent, default=0.0), sum(spent), sum(pair["bytes"] for pair in report["pairs"]))
