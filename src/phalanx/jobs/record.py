"""What the jobs room writes down of a job: stages, transitions, outcome."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from phalanx.jobs import warm_pools
from phalanx.store.base import Json, now_ms
from phalanx.store.jobs import TrainingJob, Transition

WAITING = "Training job waiting for capacity"
"""The message of a job that is Pending."""
FAILURE_REASON_LIMIT = 1024
"""Characters of DescribeTrainingJobResponse.FailureReason."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ends: SageMaker's status, secondary status, message of the last transition and FailureReason."""

    status: str
    secondary_status: str
    message: str
    failure_reason: str | None = None

    @property
    def by_platform(self) -> bool:
        """Whether the job fails by no fault of its own, so that it may be tried again."""
        return is_platform_fault(self.failure_reason)

    def to_json(self) -> Json:
        """As the store keeps it."""
        return {
            "status": self.status,
            "secondary_status": self.secondary_status,
            "message": self.message,
            "failure_reason": self.failure_reason,
        }


COMPLETED = Outcome("Completed", "Completed", "Training job completed")
STOPPED = Outcome("Stopped", "Stopped", "Training job stopped")
MAX_RUNTIME = Outcome(
    "Stopped", "MaxRuntimeExceeded", "Training job runtime exceeded MaxRuntimeInSeconds provided; the job was stopped"
)

MAX_PENDING = Outcome(
    "Stopped", "Stopped", "Training job pending time exceeded MaxPendingTimeInSeconds provided; the job was stopped"
)

MAX_WAIT = Outcome("Stopped", "MaxWaitTimeExceeded", "Training job exceeded MaxWaitTimeInSeconds provided; the job was stopped")
INTERRUPTED = Outcome("InProgress", "Interrupted", "The managed spot training instances were interrupted")
"""No end: the job waits for instances and begins again."""


def is_platform_fault(failure_reason: str | None) -> bool:
    """Whether a FailureReason is that of a fault that is not the job's own."""
    return failure_reason is not None and failure_reason.startswith("InternalServerError")


def waited_too_long(job: TrainingJob) -> bool:
    """Whether a spot job has taken longer, waiting included, than its MaxWaitTimeInSeconds."""
    longest = job.request["StoppingCondition"].get("MaxWaitTimeInSeconds")
    return longest is not None and now_ms() - job.created > 1000 * int(longest)


def pending_too_long(job: TrainingJob) -> bool:
    """Whether a job that has not begun has waited longer than its MaxPendingTimeInSeconds."""
    longest = job.request["StoppingCondition"].get("MaxPendingTimeInSeconds")
    return longest is not None and job.training_started is None and now_ms() - job.created > 1000 * int(longest)


def pause(job: TrainingJob) -> None:
    """The job's instances are given up; until `resume` its time is not billed, nor is it run time."""
    if job.training_started is not None and job.idle_since is None:
        job.idle_since = now_ms()


def resume(job: TrainingJob) -> None:
    """The job's instances are ready: its time runs on."""
    if job.idle_since is not None:
        job.idle += now_ms() - job.idle_since
        job.idle_since = None


def failed(reason: str) -> Outcome:
    """A failed job; `reason` begins with its class (`AlgorithmError:`, `ClientError:`, `InternalServerError:` …)."""
    return Outcome("Failed", "Failed", "Training job failed", _storable(reason)[:FAILURE_REASON_LIMIT])


def _storable(text: str) -> str:
    """A text as databases take it: with no half of a surrogate pair, as names that are not UTF-8 have in Python, and no NUL."""
    return text.encode(errors="replace").decode().replace("\0", "\ufffd")


def decide(session: Session, job: TrainingJob, outcome: Outcome) -> None:
    """Let a job end so, or begin anew where the fault is not its own and its RetryStrategy has an attempt left.

    All in one transaction: an attempt is counted once, whenever the service is killed.
    """
    attempts = job.request.get("RetryStrategy", {}).get("MaximumRetryAttempts", 0)
    if outcome.by_platform and job.retries < attempts and not job.stop_requested:
        job.retries += 1
        message = f"Restarting the training job, attempt {job.retries} of {attempts}: {outcome.failure_reason}"
        transition(session, job, "Restarting", message)
        pause(job)
        job.stage, job.outcome = "starting", None
    else:
        job.stage, job.outcome = "ending", outcome.to_json()


def transition(session: Session, job: TrainingJob, status: str, message: str) -> Transition:
    """Append to SecondaryStatusTransitions, unless the last entry says the same; returns the last entry then. EndTime of one is
    StartTime of the next."""
    now, last = now_ms(), last_transition(session, job)
    if last is not None:
        if (last.status, last.message) == (status, message):
            return last
        last.ended = now
    number = 0 if last is None else last.number + 1
    added = Transition(job=job.name, number=number, status=status, message=message, started=now, ended=None)
    session.add(added)
    job.secondary_status = status
    job.modified = now
    return added


def last_transition(session: Session, job: TrainingJob) -> Transition | None:
    """The last of a job's SecondaryStatusTransitions; None where it has none yet."""
    return session.scalar(select(Transition).where(Transition.job == job.name).order_by(Transition.number.desc()).limit(1))


def waits_for_hosts(session: Session, job: TrainingJob) -> bool:
    """Whether the job does not fail where no host could hold it now: it has run, or been told to wait for capacity, and the
    hosts that there were then may come back."""
    if job.retries or job.training_started is not None:
        return True
    waited = select(Transition.number).where(Transition.job == job.name, Transition.message == WAITING).limit(1)
    return session.scalar(waited) is not None


def close(session: Session, job: TrainingJob) -> None:
    """Make the outcome the job's state: terminal from here on. The last transition ends as it starts, as in SageMaker."""
    outcome = job.outcome or failed("InternalServerError: The job ended without an outcome.").to_json()
    last = transition(session, job, outcome["secondary_status"], outcome["message"])
    last.ended = last.started
    job.status = outcome["status"]
    # Once more: an earlier version may have decided it.
    job.failure_reason = outcome["failure_reason"] and _storable(outcome["failure_reason"])
    job.stage = "ended"
    job.plan = None
    job.attempts = None  # they are in the evidence
    if job.training_started is not None and job.training_ended is None:
        job.training_ended = last.started
    resume(job)
    warm_pools.leave(job)
