"""Whether security groups let the instances of an encrypted job speak to each other, and what the job is told of it."""

from __future__ import annotations

from sqlalchemy.orm import Session

from phalanx.jobs import explain, plan, preflight, record
from phalanx.store.jobs import TrainingJob

STOPPED = "Traffic between the instances is stopped: "
AT_RISK = "Traffic between the instances will stop when they lose each other: "
"""ESP passes, but IKE is not allowed: a key exchange that is tracked goes on, and no new one can begin."""
FLOWS = "Traffic between the instances flows again."


def fault(session: Session, job: TrainingJob) -> str | None:
    """The FailureReason of an encrypted job whose instances may not reach each other as the rules are now; None if they may."""
    return preflight.failure_reason(_missing(session, job))


def tell(session: Session, job: TrainingJob) -> None:
    """Say in a training job's transitions that rules have stopped its traffic, or that it flows again. Idempotent."""
    missing = _missing(session, job)
    last = record.last_transition(session, job)
    if (reason := preflight.failure_reason(missing)) is not None:
        stopped = any(rule.flow == explain.ESP for rule in missing)
        record.transition(session, job, "Training", (STOPPED if stopped else AT_RISK) + reason.removeprefix("ClientError: "))
    elif last is not None and last.message.startswith((STOPPED, AT_RISK)):
        record.transition(session, job, "Training", FLOWS)


def _missing(session: Session, job: TrainingJob) -> list[preflight.MissingRule]:
    if job.plan is None or not job.encrypted:
        return []
    made = plan.Plan.from_json(job.plan)
    return preflight.missing_rules(explain.planned(made), plan.rules(session, made.vpc_id))
