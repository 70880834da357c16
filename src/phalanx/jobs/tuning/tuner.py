"""Drives tuning jobs: starts their training jobs, stops some early, and ends when nothing is left to find.

What a tuning job has done is in the store, a row for each of its children. A child's row is written before its training job is
created under the name that it says: whenever the service is killed, the next one creates what is missing, and nothing twice.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog
from sqlalchemy import func, select
from sqlalchemy.orm import load_only

from phalanx.jobs import record
from phalanx.jobs.tuning import completion, stopping, warm
from phalanx.jobs.tuning.curves import Curves
from phalanx.jobs.tuning.search import Evaluation
from phalanx.jobs.tuning.settings import Settings
from phalanx.jobs.tuning.strategy import propose
from phalanx.store.base import Json, now_ms
from phalanx.store.database import Database
from phalanx.store.jobs import UNFINISHED, TrainingJob
from phalanx.store.tuning import TuningChild, TuningJob

POLL_SECONDS = 0.5
"""How often the objective values of running children are looked at."""
ATTEMPTS = 5
"""A tuning job fails when so many training jobs, or all of them if they are fewer, have ended and none gave a value; those that
failed by a fault of ours count only once there will be no others."""
LONGEST_PAUSE = 8.0
"""Seconds after which it is tried again, at the latest, to create a training job that could not be created."""

log = structlog.get_logger()


class Refused(Exception):
    """A training job cannot be created; the text says why."""


class NotNow(Exception):
    """A training job cannot be created at the moment; the text says why."""


class Children(Protocol):
    """How a tuner creates and stops training jobs: as a client would, by the same checks."""

    def create(self, job: TuningJob, child: TuningChild) -> None:
        """Create the training job of a child. Raises Refused where it can never be created, NotNow where
        it may be later."""

    def stop(self, name: str) -> None:
        """Ask a training job to stop; nothing happens where it has ended."""


@dataclass(frozen=True, slots=True)
class _State:
    """A tuning job with its children, in the order of their numbers, and the training jobs of those that have not settled."""

    job: TuningJob
    settings: Settings
    children: Sequence[TuningChild]
    training: dict[str, TrainingJob]

    @property
    def running(self) -> list[TuningChild]:
        return [child for child in self.children if child.settled is None]

    @property
    def values(self) -> list[float]:
        """Objective values in the order in which they became known."""
        settled = sorted((child.settled, child.objective) for child in self.children if child.settled is not None)
        return [value for _, value in settled if value is not None]


class Tuner:
    """One thread that takes every tuning job a step further whenever something may have changed."""

    def __init__(self, database: Database, children: Children) -> None:
        self._database = database
        self._children = children
        self._closing = threading.Event()
        self._awake = threading.Event()
        self._curves = Curves(database)
        self._pauses: dict[str, tuple[float, float]] = {}
        """Children that could not be created when it was last tried: when it is tried again, and how long that is after it."""
        self._thread = threading.Thread(target=self._work, name="tuner", daemon=True)

    def open(self) -> None:
        """Begin: tuning jobs that an earlier service left go on."""
        self._thread.start()

    def close(self) -> None:
        """Stop: tuning jobs go on in the next service."""
        self._closing.set()
        self._awake.set()
        self._thread.join()

    def wake(self) -> None:
        """Look at the tuning jobs: one was created or stopped, or a training job has ended."""
        self._awake.set()

    def _work(self) -> None:
        while not self._closing.is_set():
            self._awake.clear()
            for name in self._active():
                try:
                    self.advance(name)
                except Exception:
                    log.exception("the tuning job cannot be worked on", tuning_job=name)
            self._awake.wait(POLL_SECONDS)

    def _active(self) -> list[str]:
        try:
            with self._database.read() as session:
                query = select(TuningJob.name).where(TuningJob.status.in_(UNFINISHED))
                return list(session.scalars(query.order_by(TuningJob.created, TuningJob.name)))
        except Exception:
            log.exception("the tuning jobs cannot be looked at")
            return []

    def advance(self, name: str) -> None:
        """Take a tuning job as far as it goes for now. May be repeated at any time."""
        state = self._settle(self._load(name))
        self._launch(state)
        outcome = state.job.outcome or self._decide(state)
        if outcome is not None:
            self._wind_down(self._load(name), outcome)
            return
        self._stop_early(state)
        while (child := self._next(self._load(name))) is not None:
            if not self._create(state.job, child):
                # Looked at anew before another is tried: the same may be wrong with all of them.
                self._awake.set()
                return

    def _load(self, name: str) -> _State:
        with self._database.read() as session:
            job = session.get_one(TuningJob, name)
            children = session.scalars(select(TuningChild).where(TuningChild.tuning == name).order_by(TuningChild.number)).all()
            running = [child.name for child in children if child.settled is None]
            training = session.scalars(
                select(TrainingJob)
                .where(TrainingJob.name.in_(running))
                .options(
                    load_only(
                        TrainingJob.status,
                        TrainingJob.stage,
                        TrainingJob.failure_reason,
                        TrainingJob.metrics,
                        TrainingJob.modified,
                        TrainingJob.stop_requested,
                    )
                )
            )
            return _State(job, Settings.of(job.request), children, {each.name: each for each in training})

    def _settle(self, state: _State) -> _State:
        """Write down how children ended whose training jobs have."""
        ended = [child for child in state.running if child.launched and _has_ended(state.training.get(child.name))]
        if not ended:
            return state
        ended.sort(key=lambda child: (state.training[child.name].modified if child.name in state.training else 0, child.number))
        settled = len(state.children) - len(state.running)
        with self._database.write() as session:
            for place, child in enumerate(ended, settled):
                objective = state.settings.definitions[child.definition].objective
                _close(session.get_one(TuningChild, child.name), state.training.get(child.name), objective, place)
            session.get_one(TuningJob, state.job.name).modified = now_ms()
        return self._load(state.job.name)

    def _launch(self, state: _State) -> None:
        """Create what an earlier service had decided to create, unless the job is to end."""
        if state.job.outcome is None and state.job.status == "InProgress":
            for child in state.running:
                if not child.launched:
                    self._create(state.job, child, exists=child.name in state.training)

    def _decide(self, state: _State) -> Json | None:
        """How the job ends, once it is to; stored before anything is done about it."""
        settings, job, values = state.settings, state.job, state.values
        found = completion.progress(values, settings.minimize)
        dimensions = max(len(each.space.parameters) for each in settings.definitions)
        converged = completion.converged(found, dimensions)
        outcome: Json | None = None
        if job.status == "Stopping":
            outcome = {"status": "Stopped", "failure_reason": None}
        elif not values and _hopeless(state):
            outcome = {"status": "Failed", "failure_reason": _no_value(state.children)}
        elif (
            completion.reached(found.best, settings.target, settings.minimize)
            or (settings.not_improving is not None and found.not_improving >= settings.not_improving)
            or (settings.complete_on_convergence and converged)
            or (settings.max_runtime is not None and now_ms() - job.created >= 1000 * settings.max_runtime)
            or (not state.running and _exhausted(state))
        ):
            outcome = {"status": "Completed", "failure_reason": None}
        if outcome is not None or (converged and job.converged is None):
            with self._database.write() as session:
                stored = session.get_one(TuningJob, job.name)
                stored.converged = stored.converged or (now_ms() if converged else None)
                stored.outcome = outcome
        return outcome

    def _wind_down(self, state: _State, outcome: Json) -> None:
        """Stop what runs; the job ends when the last child has."""
        for child in state.running:
            training = state.training.get(child.name)
            if training is None and not child.launched:
                with self._database.write() as session:
                    session.delete(session.get_one(TuningChild, child.name))
            elif training is not None and not child.launched:
                self._mark(child)
            if training is not None and not training.stop_requested:
                self._children.stop(child.name)
        state = self._settle(self._load(state.job.name))
        if state.running:
            return
        self._curves.forget(child.name for child in state.children)
        for child in state.children:
            self._pauses.pop(child.name, None)
        with self._database.write() as session:
            job = session.get_one(TuningJob, state.job.name)
            # A stop that came while the job was winding down is what its user sees it end by.
            job.status = "Stopped" if job.status == "Stopping" else outcome["status"]
            job.failure_reason = outcome["failure_reason"]
            job.ended = job.modified = now_ms()
        log.info("tuning job ended", tuning_job=state.job.name, status=outcome["status"])

    def _stop_early(self, state: _State) -> None:
        """Stop children that are unlikely to become the best."""
        settings = state.settings
        if not settings.early_stopping and settings.strategy != "Hyperband":
            return
        settled = [child.name for child in state.children if child.settled is not None]
        curves = self._curves.read([child.name for child in state.running], settled)
        for child in state.running:
            training = state.training.get(child.name)
            if training is None or training.stop_requested:
                continue
            definition = settings.definitions[child.definition]
            rivals = [each for each in state.children if each.definition == child.definition]
            if definition.hyperband is not None:
                # Numbered within the definition, so that its children fill brackets of their own.
                numbered = {number: curves.get(each.name, ()) for number, each in enumerate(rivals)}
                stop = stopping.halved(numbered, rivals.index(child), *definition.hyperband, definition.minimize)
            else:
                previous = [curves.get(each.name, ()) for each in rivals if each.counted == "Completed"]
                stop = stopping.below_median(curves.get(child.name, ()), previous, definition.minimize)
            if stop:
                log.info("training job stopped early", tuning_job=state.job.name, job=child.name)
                self._children.stop(child.name)

    def _next(self, state: _State) -> TuningChild | None:
        """The next child, stored; None where there is no room for one or the job is to end."""
        settings, job = state.settings, state.job
        if len(state.running) >= settings.parallel or _exhausted(state) or self._closing.is_set():
            return None
        turn = settings.turn([child.definition for child in state.children])
        if turn is None:
            return None
        mine = [child for child in state.children if child.definition == turn]
        search = settings.search(turn, job.seed, warm.prior(job, settings.definitions[turn]))
        parameters = propose(search, len(mine), [_evaluation(child) for child in mine])
        number = len(state.children)
        child = TuningChild(
            name=f"{job.name}-{number + 1:03d}-{secrets.token_hex(4)}",
            tuning=job.name,
            number=number,
            definition=turn,
            parameters=parameters,
        )
        with self._database.write() as session:
            stored = session.get_one(TuningJob, job.name)
            if stored.status != "InProgress" or stored.outcome is not None:
                return None
            session.add(child)
        return child

    def _create(self, job: TuningJob, child: TuningChild, exists: bool = False) -> bool:
        """Create the training job of a stored child, now or at a later look; False where it was refused, a failed attempt."""
        again, pause = self._pauses.get(child.name, (0.0, 0.0))
        if not exists and time.monotonic() < again:
            return True
        try:
            if not exists:
                self._children.create(job, child)
        except NotNow as error:
            if not pause:
                log.warning("training job cannot be created yet", tuning_job=job.name, job=child.name, reason=str(error))
            pause = min(2 * pause or POLL_SECONDS, LONGEST_PAUSE)
            self._pauses[child.name] = (time.monotonic() + pause, pause)
            return True
        except Refused as error:
            log.warning("training job refused", tuning_job=job.name, job=child.name, reason=str(error))
            with self._database.write() as session:
                settled = select(func.count()).where(TuningChild.tuning == job.name, TuningChild.settled.is_not(None))
                stored = session.get_one(TuningChild, child.name)
                stored.settled = session.scalar(settled) or 0
                stored.counted, stored.objective_status = "NonRetryableError", "Failed"
                stored.failure_reason = str(error)
            return False
        self._mark(child)
        return True

    def _mark(self, child: TuningChild) -> None:
        with self._database.write() as session:
            session.get_one(TuningChild, child.name).launched = True


def _has_ended(training: TrainingJob | None) -> bool:
    """Whether a training job that was created is over; one that is not there was deleted after it had ended."""
    return training is None or training.stage == "ended"


def _close(child: TuningChild, training: TrainingJob | None, objective: str, place: int) -> None:
    """Make how its training job ended the child's state."""
    value = (training.metrics or {}).get(objective) if training is not None else None
    status = training.status if training is not None else "Stopped"
    if status == "Failed":
        ours = training is not None and record.is_platform_fault(training.failure_reason)
        child.counted = "RetryableError" if ours else "NonRetryableError"
    else:
        child.counted = status
    succeeded = value is not None and status != "Failed"
    child.objective = value[0] if value is not None and succeeded else None
    child.objective_status = "Succeeded" if succeeded else "Failed"
    child.settled = place


def _hopeless(state: _State) -> bool:
    """Whether a tuning job without a value fails for want of one."""
    for child in state.running:
        training = state.training.get(child.name)
        if training is not None and state.settings.definitions[child.definition].objective in (training.metrics or {}):
            return False
    tried = sum(child.settled is not None and child.counted != "RetryableError" for child in state.children)
    return tried >= min(ATTEMPTS, state.settings.most) or (not state.running and _exhausted(state))


def _exhausted(state: _State) -> bool:
    """Whether no more children will be started."""
    children = state.children
    return len(children) >= state.settings.most or state.settings.turn([child.definition for child in children]) is None


def _evaluation(child: TuningChild) -> Evaluation:
    return Evaluation(child.parameters, child.objective, failed=child.objective_status == "Failed")


def _no_value(children: Sequence[TuningChild]) -> str:
    """FailureReason of a tuning job whose training jobs gave no value, in SageMaker's words."""
    settled = [child for child in children if child.settled is not None]
    refused = next((child.failure_reason for child in settled if child.failure_reason), None)
    if all("Error" in child.counted for child in settled):
        reason = f"No training job succeeded after {len(settled)} attempts. "
        if refused is not None:
            return (reason + f"A training job could not be created: {refused}")[: record.FAILURE_REASON_LIMIT]
        return reason + "Please take a look at the training job failures to get more details."
    return (
        f"No objective metrics found after running {len(settled)} training jobs. Please ensure that the custom algorithm is "
        "emitting the objective metric as defined by the regular expression provided."
    )
