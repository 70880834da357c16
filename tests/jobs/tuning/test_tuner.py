"""Tuning jobs on a real database, with training jobs that do what the test says: every end, and every place to be killed at."""

import contextlib
import itertools
import statistics

import pytest
from sqlalchemy import select
from structlog.testing import capture_logs

from jobs.tuning.functions import FUNCTIONS, ranges, value
from phalanx.jobs.tuning import tuner as tuners
from phalanx.jobs.tuning.tuner import NotNow, Refused, Tuner
from phalanx.store.base import now_ms
from phalanx.store.database import Database, sqlite_url
from phalanx.store.jobs import TrainingJob
from phalanx.store.tuning import ObjectiveValue, TuningChild, TuningJob

BRANIN, BOUNDS = FUNCTIONS["branin"]


class Killed(BaseException):
    """The service is killed here."""


class World:
    """Implements Children; plays the training jobs."""

    def __init__(self, database):
        self.database = database
        self.created = []
        self.stopped = []
        self.refuse = self.away = None
        self.killed_before = self.killed_after = False
        self.tuner = Tuner(database, self)

    def create(self, job, child):
        if self.refuse:
            raise Refused(self.refuse)
        if self.away:
            raise NotNow(self.away)
        if self.killed_before:
            raise Killed
        with self.database.write() as session:
            now = now_ms()
            session.add(
                TrainingJob(
                    name=child.name,
                    arn=f"arn:aws:sagemaker:us-west-2:123456789012:training-job/{child.name}",
                    request={},
                    status="InProgress",
                    secondary_status="Training",
                    created=now,
                    modified=now,
                    instances=1,
                    encrypted=False,
                    tuning_job_arn=job.arn,
                )
            )
        self.created.append(child.name)
        if self.killed_after:
            raise Killed

    def stop(self, name):
        self.stopped.append(name)
        with self.database.write() as session:
            training = session.get_one(TrainingJob, name)
            training.stop_requested, training.status = True, "Stopping"

    def tune(self, strategy="Random", most=4, parallel=2, bounds=BOUNDS, definition=None, warm=None, **config):
        limits = {"MaxParallelTrainingJobs": parallel, **({} if most is None else {"MaxNumberOfTrainingJobs": most})}
        limits.update(config.pop("limits", {}))
        request = {
            "HyperParameterTuningJobConfig": {
                "Strategy": strategy,
                "HyperParameterTuningJobObjective": {"Type": "Minimize", "MetricName": "loss"},
                "ResourceLimits": limits,
                "ParameterRanges": ranges(bounds),
                **config,
            },
            "TrainingJobDefinition": {
                "AlgorithmSpecification": {"TrainingImage": "image", "TrainingInputMode": "File"},
                **(definition or {}),
            },
        }
        if "definitions" in request["TrainingJobDefinition"]:
            request["TrainingJobDefinitions"] = request.pop("TrainingJobDefinition")["definitions"]
        now = now_ms()
        with self.database.write() as session:
            session.add(
                TuningJob(
                    name="tune",
                    arn="arn:aws:sagemaker:us-west-2:123456789012:hyper-parameter-tuning-job/tune",
                    request=request,
                    caller="arn:aws:iam::123456789012:user/admin",
                    seed=5,
                    warm=warm or {},
                    status="InProgress",
                    created=now,
                    modified=now,
                )
            )

    def advance(self):
        self.tuner.advance("tune")
        return self.job

    def restart(self):
        """The service was killed: another one has only what is stored."""
        self.killed_before = self.killed_after = False
        self.tuner = Tuner(self.database, self)

    @property
    def job(self):
        with self.database.read() as session:
            return session.get_one(TuningJob, "tune")

    @property
    def children(self):
        with self.database.read() as session:
            return list(session.scalars(select(TuningChild).order_by(TuningChild.number)))

    @property
    def running(self):
        return [child for child in self.children if child.settled is None]

    def emit(self, name, *values, host="algo-1"):
        with self.database.write() as session:
            mine = select(ObjectiveValue).where(ObjectiveValue.job == name, ObjectiveValue.host == host)
            for number, each in enumerate(values, len(session.scalars(mine).all())):
                session.add(ObjectiveValue(job=name, host=host, number=number, timestamp=number, value=each))
            session.get_one(TrainingJob, name).metrics = {"loss": [values[-1], now_ms()]}

    def end(self, name, status="Completed", loss=None, reason=None):
        with self.database.write() as session:
            training = session.get_one(TrainingJob, name)
            training.stage, training.status, training.failure_reason = "ended", status, reason
            training.modified = now_ms()
            if loss is not None:
                training.metrics = {"loss": [loss, now_ms()]}

    def run(self, function=BRANIN):
        """Until the tuning job has ended: its training jobs give the function's value."""
        while self.advance().status in ("InProgress", "Stopping"):
            assert self.running
            for child in self.running:
                stopped = child.name in self.stopped
                self.end(child.name, "Stopped" if stopped else "Completed", value(function, child.parameters))
        return self.job


class Counted:
    """Tells of each attempt to create a training job."""

    def __init__(self, world, tell):
        self.world = world
        self.tell = tell

    def create(self, job, child):
        self.tell()
        self.world.create(job, child)


@pytest.fixture
def world(tmp_path):
    database = Database(sqlite_url(tmp_path / "phalanx.db"))
    database.migrate()
    yield World(database)
    database.close()


def test_runs_as_many_as_it_may_and_never_more_at_a_time(world):
    world.tune(most=7, parallel=3)
    world.advance()
    most = 0
    while world.advance().status == "InProgress":
        most = max(most, len(world.running))
        child = world.running[0]
        world.end(child.name, loss=value(BRANIN, child.parameters))
    assert (world.job.status, most, len(world.created)) == ("Completed", 3, 7)
    assert world.job.ended is not None
    assert [child.name for child in world.children] == world.created
    assert all(name.startswith(f"tune-{number:03d}-") and len(name) == 17 for number, name in enumerate(world.created, 1))
    assert [child.settled for child in world.children] == list(range(7))


def test_the_same_seed_leads_to_the_same_jobs(world, tmp_path):
    found = []
    for path in ("a", "b"):
        database = Database(sqlite_url(tmp_path / path))
        database.migrate()
        other = World(database)
        other.tune("Bayesian", most=14, parallel=2)
        other.run()
        found.append([child.parameters for child in other.children])
        database.close()
    assert found[0] == found[1]


def test_how_children_ended_is_counted_and_valued(world):
    world.tune(most=6, parallel=6)
    world.advance()
    a, b, c, d, e, f = world.created
    world.end(a, loss=1.0)
    world.end(b, "Failed", loss=0.1, reason="AlgorithmError: no")
    world.end(c, "Failed", reason="InternalServerError: We encountered an internal error.")
    world.end(d, "Stopped", loss=0.5)
    world.end(e, "Stopped")
    world.end(f)
    assert world.advance().status == "Completed"
    assert [(child.counted, child.objective_status, child.objective) for child in world.children] == [
        ("Completed", "Succeeded", 1.0),
        ("NonRetryableError", "Failed", None),
        ("RetryableError", "Failed", None),
        ("Stopped", "Succeeded", 0.5),
        ("Stopped", "Failed", None),
        ("Completed", "Failed", None),
    ]


def test_fails_when_no_training_job_succeeds(world):
    world.tune(most=20, parallel=1)
    for _ in range(5):
        world.advance()
        world.end(world.created[-1], "Failed", reason="AlgorithmError: no")
    assert world.advance().status == "Failed"
    assert world.job.failure_reason == (
        "No training job succeeded after 5 attempts. Please take a look at the training job failures to get more details."
    )


def test_fails_when_no_training_job_gives_the_metric(world):
    world.tune(most=2, parallel=2)
    world.advance()
    for name in world.created:
        world.end(name)
    assert world.advance().status == "Failed"
    assert world.job.failure_reason.startswith("No objective metrics found after running 2 training jobs.")


def test_training_jobs_that_a_lost_host_took_along_count_only_when_there_will_be_no_others(world):
    lost = "InternalServerError: Instance algo-1 was lost with its host."
    world.tune(most=12, parallel=6)
    world.advance()
    for name in world.created[:5]:
        world.end(name, "Failed", reason=lost)
    assert (world.advance().outcome, len(world.created)) == (None, 11)
    for name in world.created[5:]:
        world.end(name, "Failed", reason=lost)
    assert (world.advance().outcome, len(world.created)) == (None, 12)
    world.end(world.created[-1], "Failed", reason=lost)
    assert world.advance().status == "Failed"
    assert world.job.failure_reason.startswith("No training job succeeded after 12 attempts.")


def test_goes_on_while_a_training_job_that_runs_has_given_the_metric(world):
    world.tune(most=20, parallel=6)
    world.advance()
    *bad, good = world.created
    world.emit(good, 0.5)
    for name in bad:
        world.end(name, "Failed", reason="AlgorithmError: no")
    assert (world.advance().outcome, world.stopped) == (None, [])
    world.end(good, "Failed", loss=0.5, reason="AlgorithmError: no")
    for name in world.created[6:]:
        world.end(name, "Failed", reason="AlgorithmError: no")
    assert world.advance().status == "Failed"


def test_fails_with_the_reason_when_training_jobs_are_refused(world):
    world.tune(most=20, parallel=10)
    world.refuse = "AccessDeniedException: encryption is required"
    for _ in range(7):
        world.advance()
    assert (world.job.status, len(world.children)) == ("Failed", 5)
    assert "encryption is required" in world.job.failure_reason


def test_what_cannot_be_created_now_is_tried_again_after_pauses_and_told_once(world, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(tuners.time, "monotonic", lambda: now[0])
    world.tune(most=6, parallel=1)
    world.away = "ResourceLimitExceeded: no host with GPUs is there"
    tried = []
    monkeypatch.setattr(world.tuner, "_children", Counted(world, lambda: tried.append(now[0] - 100)))
    with capture_logs() as told:
        for _ in range(100):
            world.advance()
            now[0] += 0.5
    assert tried == [0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 23.5, 31.5, 39.5, 47.5]
    assert [entry["event"] for entry in told] == ["training job cannot be created yet"]
    world.away = None
    world.advance()
    now[0] += 8
    world.advance()
    assert len(world.created) == 1


def test_what_cannot_be_created_now_costs_no_attempt(world, monkeypatch):
    monkeypatch.setattr(tuners, "LONGEST_PAUSE", 0.0)
    world.tune(most=6, parallel=2)
    world.advance()
    world.end(world.created[0], loss=1.0)
    world.away = "ResourceLimitExceeded: no host with GPUs is there"
    for _ in range(20):
        world.advance()
    assert (world.job.status, len(world.children)) == ("InProgress", 3)
    assert [each.counted for each in world.children if each.settled is not None] == ["Completed"]
    world.away = None
    assert world.run().status == "Completed"
    assert {each.counted for each in world.children} == {"Completed"}
    assert len(world.children) == 6


def test_a_job_whose_training_jobs_cannot_be_created_can_be_stopped(world):
    world.tune(most=6, parallel=2)
    world.away = "ResourceLimitExceeded: no host with GPUs is there"
    world.advance()
    with world.database.write() as session:
        session.get_one(TuningJob, "tune").status = "Stopping"
    for _ in range(3):
        world.advance()
    assert world.job.status == "Stopped"
    assert world.created == []


def test_a_stop_stops_the_children_and_starts_no_more(world):
    world.tune(most=9, parallel=2)
    world.advance()
    with world.database.write() as session:
        session.get_one(TuningJob, "tune").status = "Stopping"
    assert world.advance().status == "Stopping"
    assert world.stopped == world.created
    assert len(world.created) == 2
    for name in world.created:
        world.end(name, "Stopped", loss=1.0)
    assert world.advance().status == "Stopped"


@pytest.mark.parametrize(
    ("config", "losses"),
    [
        ({"TargetObjectiveMetricValue": 0.2}, [0.9, 0.3, 0.2]),
        ({"BestObjectiveNotImproving": {"MaxNumberOfTrainingJobsNotImproving": 3}}, [0.9, 0.899, 0.95, 0.896]),
        ({"ConvergenceDetected": {"CompleteOnConvergence": "Enabled"}}, [0.5] * 11),
    ],
)
def test_completion_criteria_complete_the_job_and_stop_what_still_runs(world, config, losses):
    world.tune(most=50, parallel=2, TuningJobCompletionCriteria=config)
    for loss in losses:
        assert world.advance().status == "InProgress"
        world.end(world.running[0].name, loss=loss)
    world.advance()
    assert (world.job.status, len(world.stopped)) == ("InProgress", 1)
    world.end(world.stopped[0], "Stopped")
    assert world.advance().status == "Completed"


def test_convergence_is_told_where_it_does_not_complete_the_job(world):
    world.tune(most=12, parallel=1)
    for _ in range(12):
        world.advance()
        world.end(world.running[0].name, loss=0.5)
    assert world.advance().status == "Completed"
    assert world.job.converged is not None


def test_max_runtime_completes_the_job(world):
    world.tune(most=50, parallel=1, limits={"MaxRuntimeInSeconds": 120})
    world.advance()
    with world.database.write() as session:
        session.get_one(TuningJob, "tune").created -= 121_000
    world.advance()
    assert world.stopped == world.created
    world.end(world.stopped[0], "Stopped", loss=1.0)
    assert world.advance().status == "Completed"


def test_the_median_rule_stops_a_child_that_falls_behind(world):
    world.tune(most=4, parallel=4, TrainingJobEarlyStoppingType="Auto")
    world.advance()
    *good, bad = world.created
    for name in good:
        world.emit(name, 3.0, 2.0, 1.0)
        world.end(name, loss=1.0)
    world.emit(bad, 3.0)
    world.advance()
    assert world.stopped == []
    world.emit(bad, 2.9)
    world.advance()
    assert world.stopped == [bad]
    world.end(bad, "Stopped", loss=2.9)
    assert world.advance().status == "Completed"
    assert world.children[3].objective == 2.9


def test_hyperband_counts_an_epoch_once_though_all_hosts_tell_of_it(world):
    config = {"StrategyConfig": {"HyperbandStrategyConfig": {"MinResource": 1, "MaxResource": 9}}}
    world.tune("Hyperband", most=6, parallel=1, **config)
    world.advance()
    for epoch in range(9):
        for host in ("algo-1", "algo-2"):
            world.emit(world.created[0], 1.0 - epoch / 10, host=host)
        world.advance()
        assert world.stopped == []
    world.emit(world.created[0], 0.1, host="algo-2")
    world.advance()
    assert world.stopped == world.created


def test_hyperband_finds_what_random_finds_with_less_than_six_tenths_of_its_epochs(world, tmp_path):
    epochs = 27

    def spend(strategy, seed):
        database = Database(sqlite_url(tmp_path / f"{strategy}-{seed}"))
        database.migrate()
        other = World(database)
        config = {"StrategyConfig": {"HyperbandStrategyConfig": {"MaxResource": epochs}}} if strategy == "Hyperband" else {}
        other.tune(strategy, most=30, parallel=5, **config)
        with database.write() as session:
            session.get_one(TuningJob, "tune").seed = seed
        spent, curves = 0, {}
        while other.advance().status == "InProgress":
            for child in other.running:
                curve = curves.setdefault(child.name, [])
                if child.name in other.stopped:
                    other.end(child.name, "Stopped", loss=curve[-1])
                    continue
                # As epochs pass, a training job's loss comes down to what its hyperparameters are worth.
                steps = range(len(curve) + 1, min(len(curve) + 3, epochs) + 1)
                new = [value(BRANIN, child.parameters) + 30 * (epochs - step) / epochs / step for step in steps]
                other.emit(child.name, *new)
                curve += new
                spent += len(new)
                if len(curve) == epochs:
                    other.end(child.name, loss=curve[-1])
        assert other.job.status == "Completed"
        database.close()
        return spent, min(child.objective for child in other.children if child.objective is not None)

    results = {strategy: [spend(strategy, seed) for seed in range(3)] for strategy in ("Random", "Hyperband")}
    spent = {strategy: sum(each[0] for each in found) for strategy, found in results.items()}
    best = {strategy: statistics.median(each[1] for each in found) for strategy, found in results.items()}
    assert spent["Hyperband"] < 0.6 * spent["Random"]
    assert best["Hyperband"] <= best["Random"]


def test_definitions_take_turns_and_a_finished_grid_is_passed_over(world):
    def definition(name, values):
        return {
            "DefinitionName": name,
            "TuningObjective": {"Type": "Minimize", "MetricName": "loss"},
            "HyperParameterRanges": {"CategoricalParameterRanges": [{"Name": "x0", "Values": values}]},
            "AlgorithmSpecification": {"TrainingImage": "image", "TrainingInputMode": "File"},
        }

    world.tune("Grid", None, 1, definition={"definitions": [definition("a", ["1"]), definition("b", ["2", "3", "4"])]})
    assert world.run(lambda x: x).status == "Completed"
    assert [(child.definition, child.parameters["x0"]) for child in world.children] == [(0, "1"), (1, "2"), (1, "3"), (1, "4")]


@pytest.mark.parametrize("strategy", ["Random", "Bayesian", "Hyperband"])
def test_ends_when_every_combination_was_tried(world, strategy):
    choices = {"CategoricalParameterRanges": [{"Name": "x0", "Values": ["1", "2", "3"]}]}
    world.tune(strategy, 6, 2, ParameterRanges=choices)
    world.advance()
    first, second = world.running
    # Failed by its own fault or by ours, a child has used its combination up, as with Grid.
    world.end(first.name, "Failed", reason="InternalServerError: lost")
    world.end(second.name, loss=1.0)
    assert world.run(lambda x: x).status == "Completed"
    assert sorted(child.parameters["x0"] for child in world.children) == ["1", "2", "3"]


def test_a_definition_without_untried_combinations_leaves_its_turns_to_others(world):
    def definition(name, **ranges):
        return {
            "DefinitionName": name,
            "TuningObjective": {"Type": "Minimize", "MetricName": "loss"},
            "HyperParameterRanges": ranges,
            "AlgorithmSpecification": {"TrainingImage": "image", "TrainingInputMode": "File"},
        }

    small = definition("a", CategoricalParameterRanges=[{"Name": "x0", "Values": ["1", "2"]}])
    large = definition("b", ContinuousParameterRanges=[{"Name": "x0", "MinValue": "0", "MaxValue": "1"}])
    world.tune("Random", 8, 2, definition={"definitions": [small, large]})
    assert world.run(lambda x: x).status == "Completed"
    mine = [child.parameters["x0"] for child in world.children if child.definition == 0]
    assert sorted(mine) == ["1", "2"]
    assert len(world.children) == 8


@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_while_it_creates_a_child_it_creates_it_once(world, moment):
    world.tune(most=3, parallel=3)
    setattr(world, f"killed_{moment}", True)
    with pytest.raises(Killed):
        world.advance()
    planned = [child.name for child in world.children]
    world.restart()
    world.advance()
    assert len(world.created) == 3
    assert len(set(world.created)) == 3
    assert world.created[0] == planned[0]
    assert world.run().status == "Completed"
    assert len(world.created) == 3


@pytest.mark.parametrize("offset", range(5))
def test_killed_at_any_step_no_evaluation_is_lost_or_run_twice(world, monkeypatch, offset):
    """Of every five transactions one is the last before the service is killed, and one comes too late."""
    world.tune("Bayesian", most=6, parallel=2)
    transactions = itertools.count(offset)
    original = Database.write

    @contextlib.contextmanager
    def write(database):
        number = next(transactions) % 5
        if number == 1:
            raise Killed
        with original(database) as session:
            yield session
        if number == 3:
            raise Killed

    monkeypatch.setattr(Database, "write", write)
    for _ in range(200):
        try:
            if world.advance().status != "InProgress":
                break
            for child in world.running:
                world.end(child.name, loss=value(BRANIN, child.parameters))
        except Killed:
            world.restart()
    monkeypatch.undo()
    assert world.job.status == "Completed"
    with world.database.read() as session:
        names = session.scalars(select(TrainingJob.name).order_by(TrainingJob.name)).all()
    assert [child.name for child in world.children] == names
    assert len(names) == 6
    assert sorted(child.settled for child in world.children) == list(range(6))


def test_a_planned_child_of_a_job_that_is_to_end_is_dropped(world):
    world.tune(most=3, parallel=1)
    world.killed_before = True
    with pytest.raises(Killed):
        world.advance()
    world.restart()
    with world.database.write() as session:
        session.get_one(TuningJob, "tune").status = "Stopping"
    assert world.advance().status == "Stopped"
    assert (world.children, world.created) == ([], [])


def test_a_child_whose_training_job_was_deleted_counts_as_stopped(world):
    world.tune(most=1, parallel=1)
    world.advance()
    with world.database.write() as session:
        session.delete(session.get_one(TrainingJob, world.created[0]))
    world.advance()
    assert world.children[0].counted == "Stopped"
    assert len(world.created) == 1


def test_its_thread_works_on_all_tuning_jobs_and_ends(world, monkeypatch):
    monkeypatch.setattr(tuners, "POLL_SECONDS", 0.01)
    world.tune(most=2, parallel=2)
    world.tuner.open()
    while len(world.created) < 2:
        pass
    world.tuner.close()
    assert len(world.children) == 2
