"""How a job ends that fails: by whose fault, and in which words."""

from __future__ import annotations

import structlog

from phalanx.fleet.base import FleetError, Refused
from phalanx.jobs.record import Outcome, failed
from phalanx.node.messages import InstanceStatus
from phalanx.store.database import UNAVAILABLE
from phalanx.store.jobs import Stage

_WORDLESS = "AlgorithmError: , exit code:"
"""How the FailureReason of an instance that left no words begins."""

log = structlog.get_logger()


def of_stage(error: Exception, stage: Stage) -> Outcome | None:
    """How a job ends whose stage raised this; None where the stage is repeated."""
    if isinstance(error, Refused):
        return failed(_reason(str(error)))
    # The fleet or the store is away, has no room, or is locked: that is not how a job ends.
    if isinstance(error, (FleetError, *UNAVAILABLE)):
        return None
    log.exception("stage failed", stage=stage)
    return failed(f"InternalServerError: {type(error).__name__}: {error}")


def of_instances(broken: list[InstanceStatus]) -> Outcome:
    """How a job ends whose instances broke: by the first that failed, in its own words if it left any (/opt/ml/output/failure).

    The end of an instance that ran out of memory goes before what its peers say of it.
    """
    status = (
        next((item for item in broken if item.error), None)
        or next((item for item in broken if item.out_of_memory), None)
        or next((item for item in broken if item.failure), None)
        or broken[0]
    )
    if status.error:
        return failed(status.error)
    if status.out_of_memory:
        return failed(
            "ClientError: Please use an instance type with more memory, or reduce the size of job data processed"
            f" on an instance., exit code: {status.exit_code}"
        )
    return failed(f"AlgorithmError: {status.failure or ''}, exit code: {status.exit_code}")


def reconsidered(ending: Outcome, statuses: list[InstanceStatus]) -> Outcome:
    """How a job ends, by the ends of its containers that have ended since.

    The first end that was seen may be that of an instance that knew no more than that a peer was gone, whose host had failed or
    that had run out of memory; or of one that was killed and could say nothing, where its peers can.
    """
    reason = ending.failure_reason or ""
    if not reason.startswith("AlgorithmError:"):
        return ending
    knowing = [status for status in statuses if status.error] or [status for status in statuses if status.out_of_memory]
    if not knowing and reason.startswith(_WORDLESS):
        knowing = [status for status in statuses if status.failure]
    return of_instances(knowing) if knowing else ending


def _reason(text: str) -> str:
    """A FailureReason always begins with its class."""
    head = text.partition(":")[0]
    return text if head.endswith("Error") and " " not in head else f"InternalServerError: {text}"
