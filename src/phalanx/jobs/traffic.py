"""Whether security groups let the instances of an encrypted job speak to each other, and what the job is told of it."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from phalanx.jobs import plan, preflight, record
from phalanx.store.jobs import TrainingJob, Transition

STOPPED = "Traffic between the instances is stopped: "
AT_RISK = "Traffic between the instances will stop when they lose each other: "
"""ESP passes, but IKE is not allowed: a key exchange that is tracked goes on, and no new one can begin."""
FLOWS = "Traffic between the instances flows again."


def fault(session: Session, job: TrainingJob) -> str | None:
    """The FailureReason of an encrypted job whose instances may not reach each other as the rules are now; None if they may."""
    if job.plan is None or not job.encrypted:
        return None
    return preflight.failure_reason(*_instances(job), plan.rules(session, job.plan["vpc"]))


def tell(session: Session, job: TrainingJob) -> None:
    """Say in a training job's transitions that rules have stopped its traffic, or that it flows again. Idempotent."""
    reason = fault(session, job)
    last = session.scalars(
        select(Transition.message).where(Transition.job == job.name).order_by(Transition.number.desc()).limit(1)
    ).one()
    if reason is not None:
        missing = preflight.missing_rules(*_instances(job), plan.rules(session, (job.plan or {})["vpc"]))
        stopped = any(rule.protocol == preflight.ESP for rule in missing)
        text = reason.removeprefix("ClientError: ")
        record.transition(session, job, "Training", (STOPPED if stopped else AT_RISK) + text)
    elif last.startswith((STOPPED, AT_RISK)):
        record.transition(session, job, "Training", FLOWS)


def _instances(job: TrainingJob) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    """The groups and the addresses of a job's instances, by host."""
    made = plan.Plan.from_json(job.plan or {})
    return {placement.host: placement.eni.groups for placement in made.placements}, made.hosts
