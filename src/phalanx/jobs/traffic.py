"""Whether security groups and network ACLs let the instances of an encrypted job reach each other, and what it hears of it."""

from __future__ import annotations

from sqlalchemy.orm import Session

from phalanx.jobs import acls, explain, plan, preflight, record
from phalanx.store.jobs import TrainingJob

STOPPED = "Traffic between the instances is stopped: "
AT_RISK = "Traffic between the instances will stop when they lose each other: "
"""ESP passes, but IKE is not allowed: a key exchange that is tracked goes on, and no new one can begin."""
FLOWS = "Traffic between the instances flows again."


def fault(session: Session, job: TrainingJob) -> str | None:
    """The FailureReason of an encrypted job whose instances may not reach each other as the rules are now; None if they may."""
    return _reason(*_stopped(session, job))


def tell(session: Session, job: TrainingJob) -> None:
    """Say in a training job's transitions that rules have stopped its traffic, or that it flows again. Idempotent."""
    missing, blocked = _stopped(session, job)
    last = record.last_transition(session, job)
    if (reason := _reason(missing, blocked)) is not None:
        stopped = explain.ESP in [*(rule.flow for rule in missing), *(each.flow for each in blocked)]
        record.transition(session, job, "Training", (STOPPED if stopped else AT_RISK) + reason.removeprefix("ClientError: "))
    elif last is not None and last.message.startswith((STOPPED, AT_RISK)):
        record.transition(session, job, "Training", FLOWS)


def _stopped(session: Session, job: TrainingJob) -> tuple[list[preflight.MissingRule], list[preflight.Blocked]]:
    """What security groups, and what network ACLs keep the instances of an encrypted job from."""
    if job.plan is None or not job.encrypted:
        return [], []
    vpc_id = plan.Plan.from_json(job.plan).vpc_id
    ends = explain.ends(session, job).values()
    return preflight.missing_rules(ends, plan.rules(session, vpc_id)), preflight.blocked(ends, acls.of_vpc(session, vpc_id))


def _reason(missing: list[preflight.MissingRule], blocked: list[preflight.Blocked]) -> str | None:
    return preflight.failure_reason(missing) or preflight.border_reason(blocked)
