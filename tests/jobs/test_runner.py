"""A job's life against a fleet without hosts: every end it can come to, and every place where it may be cut short."""

import itertools
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from sqlalchemy import delete, select
from sqlalchemy.exc import OperationalError

from jobs.stub_fleet import Script, StubFleet
from phalanx.data.logs import LogLine
from phalanx.data.model import ObjectStore, RoleCredentials
from phalanx.fleet.base import Unreachable
from phalanx.jobs import evidence, record, runner
from phalanx.jobs.admission import RESERVED_BYTES
from phalanx.jobs.enforcement import Enforcement
from phalanx.jobs.journal import Journal
from phalanx.jobs.keyring import Keyring
from phalanx.jobs.manager import Manager
from phalanx.jobs.meter import Meter
from phalanx.jobs.runner import Runner
from phalanx.jobs.signature import Signer, verify
from phalanx.jobs.world import World
from phalanx.network.model import GuardCounters
from phalanx.node.messages import InstanceStatus, Phase
from phalanx.store.base import Base, now_ms
from phalanx.store.database import Database, sqlite_url
from phalanx.store.jobs import LogEvent, LogStream, Tag, TrainingJob, Transition
from phalanx.store.keys import Key
from phalanx.store.network import SecurityGroup, Subnet, Vpc

IMAGE = "246618743249.dkr.ecr.us-west-2.amazonaws.com/sagemaker-xgboost:1.7-1"
ROLE = "arn:aws:iam::123456789012:role/SageMakerTraining"
STORE = ObjectStore("http://127.0.0.1:1", "us-west-2", "key", "secret")


@pytest.fixture
def database(tmp_path):
    database = Database(sqlite_url(tmp_path / "phalanx.db"))
    database.migrate()
    yield database
    database.close()


@pytest.fixture
def signer(tmp_path):
    return Signer(tmp_path / "evidence.key")


def create(database, name="job", instances=2, encrypted=True, **request):
    now = now_ms()
    with database.write() as session:
        job = TrainingJob(
            name=name,
            arn=f"arn:aws:sagemaker:us-west-2:123456789012:training-job/{name}",
            request={
                "TrainingJobName": name,
                "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": "File"},
                "RoleArn": ROLE,
                "OutputDataConfig": {"S3OutputPath": "s3://bucket/models"},
                "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": instances, "VolumeSizeInGB": 1},
                "StoppingCondition": {"MaxRuntimeInSeconds": 60},
                **request,
            },
            status="InProgress",
            secondary_status="Starting",
            created=now,
            modified=now,
            instances=instances,
            encrypted=encrypted,
        )
        session.add(job)
        session.flush()
        record.transition(session, job, "Starting", "Starting the training job")


def run(database, fleet, signer, name="job", closing=None, keys=tuple):
    closing = closing or threading.Event()
    Runner(name, World(database, fleet, Enforcement(database, fleet), STORE, signer, closing, keys=keys)).run()
    return load(database, name)


def serve(database, fleet, signer, until):
    """A service that is stopped cleanly once `until()` holds."""
    manager = Manager(database, fleet, STORE, signer)
    manager.open()
    wait_for(until)
    manager.close()


def load(database, name="job"):
    with database.read() as session:
        return session.get_one(TrainingJob, name)


def transitions(database, name="job"):
    with database.read() as session:
        return list(session.scalars(select(Transition).where(Transition.job == name).order_by(Transition.number)))


def two_zones(database):
    """A VpcConfig with a subnet in each of two zones."""
    with database.write() as session:
        session.add(Vpc(id="vpc-1", cidr="10.0.0.0/16", is_default=False))
        session.flush()
        for letter, third in (("a", 1), ("b", 2)):
            block, zone = f"10.0.{third}.0/24", f"us-west-2{letter}"
            session.add(Subnet(id=f"subnet-{letter}", vpc_id="vpc-1", cidr=block, zone=zone, is_default=False))
        session.add(SecurityGroup(id="sg-1", vpc_id="vpc-1", name="g", description="g"))
    return {"Subnets": ["subnet-a", "subnet-b"], "SecurityGroupIds": ["sg-1"]}


def acting(store, role, seconds):
    """As a service under --require-roles reaches S3: with a key that says for whom, and for how long."""
    return replace(store, access_key=f"{role} {seconds}", token="token") if role == ROLE else None


def test_a_job_reaches_s3_as_its_role_where_roles_are_required(database, signer):
    create(database)
    create(database, "other", RoleArn=ROLE + "2")
    fleet = StubFleet(Script())
    for name in ("job", "other"):
        world = World(database, fleet, Enforcement(database, fleet), STORE, signer, threading.Event(), acting=acting)
        Runner(name, world).run()
    assert load(database).status == "Completed"
    assert {(spec.store.access_key, spec.store.token) for spec in fleet.specs.values()} == {(f"{ROLE} 60", "token")}
    job = load(database, "other")
    assert (job.status, job.failure_reason) == (
        "Failed",
        f"ClientError: Could not assume role {ROLE}2. It was deleted, or trusts SageMaker no more.",
    )


def test_a_job_gets_the_keys_that_its_role_may_use(database, signer, tmp_path):
    keyring = Keyring(database, tmp_path / "root.key")
    with database.write() as session:
        reads, writes = (keyring.create(session, "arn:aws:kms:us-west-2:123456789012:key/", "").arn for _ in range(2))
    for name, key in (("job", writes), ("other", reads)):
        create(database, name, OutputDataConfig={"S3OutputPath": "s3://bucket/models", "KmsKeyId": key})
    allowed = {(ROLE, "Decrypt", reads), (ROLE, "GenerateDataKey", writes)}
    fleet = StubFleet(Script())
    for name in ("job", "other"):
        world = World(database, fleet, Enforcement(database, fleet), STORE, signer, threading.Event(), keys=keyring.data_keys)
        Runner(name, replace(world, key_use=lambda *asked: asked in allowed)).run()
    assert load(database).status == "Completed"
    assert {spec.job for spec in fleet.specs.values()} == {"job"}
    for spec in fleet.specs.values():
        assert [key.arn for key in spec.store.keys] == [reads]
        assert spec.output.key.arn == writes
    job = load(database, "other")
    denied = f"The role {ROLE} is not authorized to perform: kms:GenerateDataKey on resource: {reads}."
    assert (job.status, job.failure_reason) == ("Failed", f"ClientError: OutputDataConfig.KmsKeyId: {denied}")


def lending(role):
    """As a service lends containers credentials of roles that somebody created."""
    return RoleCredentials(role, "ASIAEXAMPLE", "secret", "token", datetime.now(UTC)) if role == ROLE else None


def test_containers_that_can_reach_s3_are_lent_credentials_of_their_role(database, signer):
    network = two_zones(database)
    jobs = {
        "reaches": {"VpcConfig": network},
        "nobodys": {"VpcConfig": network, "RoleArn": ROLE + "2"},
        "isolated": {"VpcConfig": network, "EnableNetworkIsolation": True},
        "alone": {},
    }
    for name, request in jobs.items():
        create(database, name, encrypted=False, **request)
        fleet = StubFleet(Script())
        world = World(database, fleet, Enforcement(database, fleet), STORE, signer, threading.Event(), lending=lending)
        Runner(name, world).run()
        assert load(database, name).status == "Completed"
        expecting = [spec.id for spec in fleet.specs.values() if spec.credentials is not None]
        assert expecting == (list(fleet.specs) if name == "reaches" else [])
        assert [(list(ids), lent.role) for ids, lent in fleet.lent] == ([(expecting, ROLE)] if expecting else [])


def test_containers_are_lent_new_credentials_from_time_to_time(database, signer, monkeypatch):
    monkeypatch.setattr(runner, "LEND_SECONDS", 0.0)
    create(database, encrypted=False, VpcConfig=two_zones(database))
    fleet, closing = StubFleet(Script(hold=Phase.RUNNING)), threading.Event()
    world = World(database, fleet, Enforcement(database, fleet), STORE, signer, closing, lending=lending)
    running = threading.Thread(target=Runner("job", world).run)
    running.start()
    while len(fleet.lent) < 3:
        time.sleep(0.01)
    closing.set()
    running.join()
    assert load(database).stage == "training"


def test_objects_are_looked_for_as_the_role(database, signer):
    manager = Manager(database, StubFleet(Script()), STORE, signer, acting=acting)
    assert not manager.has_objects("s3://bucket/data", ROLE + "2")
    # Taken, since nobody answers: the job's hosts look again.
    assert manager.has_objects("s3://bucket/data", ROLE)


def test_completes_with_model_evidence_logs_and_chained_transitions(database, signer):
    create(database)
    fleet = StubFleet(Script(logs=[LogLine(5, "[0]\ttrain-auc:0.9"), LogLine(6, "done")]))
    job = run(database, fleet, signer)
    assert (job.status, job.secondary_status, job.failure_reason) == ("Completed", "Completed", None)
    assert job.model_uri == "s3://bucket/models/job/output/model.tar.gz"
    assert job.plan is None
    assert fleet.present == set()
    verify(job.evidence)
    assert [(pair["local"], pair["remote"]) for pair in job.evidence["pairs"]] == [("algo-1", "algo-2"), ("algo-2", "algo-1")]
    assert job.evidence["plaintext_packets_dropped"] == 4
    entries = transitions(database)
    assert [entry.status for entry in entries] == [
        "Starting", "Starting", "Downloading", "Training", "Uploading", "Completed",
    ]  # fmt: skip
    assert all(entry.ended == following.started for entry, following in itertools.pairwise(entries))
    assert entries[-1].ended == entries[-1].started
    with database.read() as session:
        streams = session.scalars(select(LogStream).order_by(LogStream.name)).all()
        assert [stream.host for stream in streams] == ["algo-1", "algo-2"]
        texts = session.scalars(select(LogEvent.message).where(LogEvent.stream == streams[0].name)).all()
    assert texts == ["[0]\ttrain-auc:0.9", "done"]


def test_a_job_writes_with_its_keys_data_key_and_may_read_with_every_other(database, signer, tmp_path):
    keyring = Keyring(database, tmp_path / "root.key")
    with database.write() as session:
        arns = [keyring.create(session, "arn:aws:kms:us-west-2:123456789012:key/", "").arn for _ in range(2)]
    output = {"S3OutputPath": "s3://bucket/models", "KmsKeyId": arns[1]}
    create(database, "job", OutputDataConfig=output, CheckpointConfig={"S3Uri": "s3://bucket/run"})
    create(database, "late", OutputDataConfig=output)
    create(database, "plain")
    fleet, keys = StubFleet(Script()), keyring.data_keys
    assert run(database, fleet, signer, keys=keys).status == "Completed"
    with database.write() as session:
        session.scalar(select(Key).where(Key.arn == arns[1])).enabled = False
    job = run(database, fleet, signer, "late", keys=keys)
    assert (job.status, job.failure_reason) == ("Failed", f"ClientError: OutputDataConfig.KmsKeyId: {arns[1]} is disabled.")
    assert run(database, fleet, signer, "plain", keys=keys).status == "Completed"
    specs = {spec.job: spec for spec in fleet.specs.values()}
    assert set(specs) == {"job", "plain"}
    assert specs["job"].output.key == specs["job"].checkpoints.key
    assert specs["job"].output.key.arn == arns[1]
    assert {key.arn for key in specs["job"].store.keys} == set(arns)
    assert [key.arn for key in specs["plain"].store.keys] == arns[:1]
    assert specs["plain"].output.key is None


def test_every_pair_of_an_encrypted_job_has_keys_of_its_own_and_none_is_stored(database, signer):
    create(database, instances=3)
    fleet = StubFleet(Script())
    run(database, fleet, signer)
    meshes = [spec.mesh for spec in fleet.specs.values()]
    assert len({mesh.credentials.private_key for mesh in meshes}) == 3
    assert len({mesh.credentials.ppk for mesh in meshes}) == 1
    with database.rows() as rows:
        stored = "\n".join(repr(rows.execute(select(table)).all()) for table in Base.metadata.sorted_tables)
    for mesh in meshes:
        assert mesh.credentials.private_key.splitlines()[1] not in stored
        assert mesh.credentials.ppk not in stored


@pytest.mark.parametrize(("instances", "encrypted"), [(1, True), (2, False)])
def test_no_keys_are_made_where_nothing_is_encrypted(database, signer, instances, encrypted):
    create(database, instances=instances, encrypted=encrypted)
    fleet = StubFleet(Script())
    job = run(database, fleet, signer)
    assert job.status == "Completed"
    assert all(spec.mesh is None for spec in fleet.specs.values())
    assert job.evidence["pairs"] == []
    assert job.evidence["encrypted"] is False


def test_failure_file_and_exit_code_become_the_reason(database, signer):
    create(database)
    job = run(database, StubFleet(Script(exit_codes={"algo-2": 1}, failures={"algo-2": "label out of range"})), signer)
    assert (job.status, job.failure_reason) == ("Failed", "AlgorithmError: label out of range, exit code: 1")
    # What it left is uploaded, as SageMaker does.
    assert job.model_uri == "s3://bucket/models/job/output/model.tar.gz"
    assert [each.status for each in transitions(database)][-3:] == ["Training", "Uploading", "Failed"]
    assert job.training_ended <= transitions(database)[-2].started


def test_an_upload_that_is_refused_hides_no_failure(database, signer):
    create(database)
    script = Script(exit_codes={"algo-2": 1}, upload_error="ClientError: Artifact upload failed: no such bucket")
    job = run(database, StubFleet(script), signer)
    assert (job.status, job.failure_reason, job.model_uri) == ("Failed", "AlgorithmError: , exit code: 1", None)


def test_an_instance_that_cannot_be_prepared_fails_the_job_with_its_cause(database, signer):
    create(database)
    fleet = StubFleet(Script(errors={Phase.CONNECTED: "InternalServerError: no CHILD_SA with algo-2"}))
    job = run(database, fleet, signer)
    assert (job.status, job.failure_reason) == ("Failed", "InternalServerError: no CHILD_SA with algo-2")
    assert fleet.present == set()


class Mending(StubFleet):
    """A fleet whose errors are over after so many attempts."""

    def __init__(self, script, attempts):
        super().__init__(script)
        self.attempts = attempts

    def place(self, specs):
        self.attempts -= 1
        if self.attempts < 0:
            self.script.errors.clear()
        super().place(specs)


@pytest.mark.shows("RetryStrategy.MaximumRetryAttempts")
@pytest.mark.parametrize(("faults", "status"), [(0, "Completed"), (2, "Completed"), (3, "Failed")])
def test_internal_errors_are_retried_as_often_as_asked(database, signer, faults, status):
    create(database, RetryStrategy={"MaximumRetryAttempts": 2})
    fleet = Mending(Script(errors={Phase.RUNNING: "InternalServerError: the host stumbled"}), faults)
    job = run(database, fleet, signer)
    assert (job.status, job.retries) == (status, min(faults, 2))
    restarts = [entry for entry in transitions(database) if entry.status == "Restarting"]
    assert [entry.message.partition(":")[0] for entry in restarts] == [
        f"Restarting the training job, attempt {number} of 2" for number in range(1, min(faults, 2) + 1)
    ]
    assert fleet.present == set()
    # Every attempt has instances and keys of its own.
    assert len({spec.mesh.credentials.ppk for spec in fleet.specs.values()}) == min(faults, 2) + 1
    # And what was measured of each is in the evidence.
    attempts = [*job.evidence["earlier_attempts"], job.evidence]
    assert [len(attempt["pairs"]) for attempt in attempts] == [2] * (min(faults, 2) + 1)
    assert {each["id"] for attempt in attempts for each in attempt["instances"]} == set(fleet.specs)
    assert evidence.doubt(job, signer.public_key) is None


def test_the_users_own_errors_are_not_retried(database, signer):
    create(database, RetryStrategy={"MaximumRetryAttempts": 2})
    job = run(database, StubFleet(Script(exit_codes={"algo-1": 1})), signer)
    assert (job.status, job.retries) == ("Failed", 0)


def test_upload_that_is_refused_fails_the_job(database, signer):
    create(database)
    job = run(database, StubFleet(Script(upload_error="ClientError: Artifact upload failed: no such bucket")), signer)
    assert (job.status, job.failure_reason) == ("Failed", "ClientError: Artifact upload failed: no such bucket")


def test_a_reason_that_no_database_takes_is_stored_without_what_it_does_not_take(database, signer):
    create(database)
    job = run(database, StubFleet(Script(upload_error="ClientError: Data upload failed:\udcff\0 is too long")), signer)
    assert (job.status, job.failure_reason) == ("Failed", "ClientError: Data upload failed:?\ufffd is too long")


def test_a_job_that_an_earlier_version_could_not_end_ends(database, signer):
    create(database)
    with database.write() as session:
        stored = session.get_one(TrainingJob, "job")
        stored.stage, stored.outcome = "ending", replace(record.failed(""), failure_reason="ClientError: \udcff").to_json()
    assert run(database, StubFleet(Script()), signer).failure_reason == "ClientError: ?"


def test_calls_are_repeated_while_the_fleet_is_away(database, signer):
    create(database)
    job = run(database, StubFleet(Script(unreachable=2)), signer)
    assert job.status == "Completed"


@pytest.mark.parametrize("hold", [Phase.PREPARED, Phase.LOADED, Phase.RUNNING])
def test_stop_ends_the_job_wherever_it_is(database, signer, hold):
    create(database)
    fleet = StubFleet(Script(hold=hold))
    thread = threading.Thread(target=run, args=(database, fleet, signer))
    thread.start()
    wait_for(lambda: fleet.present)
    with database.write() as session:
        session.get_one(TrainingJob, "job").stop_requested = True
    thread.join(30)
    job = load(database)
    assert (job.status, job.secondary_status) == ("Stopped", "Stopped")
    assert (job.model_uri is not None) == (hold == Phase.RUNNING)
    assert fleet.present == set()


@pytest.mark.shows("StoppingCondition.MaxRuntimeInSeconds")
def test_max_runtime_stops_the_job_and_keeps_its_model(database, signer):
    create(database, StoppingCondition={"MaxRuntimeInSeconds": 0})
    job = run(database, StubFleet(Script(hold=Phase.RUNNING)), signer)
    assert (job.status, job.secondary_status) == ("Stopped", "MaxRuntimeExceeded")
    assert job.model_uri


def test_max_runtime_bounds_the_download_too(database, signer):
    create(database, StoppingCondition={"MaxRuntimeInSeconds": 0})
    fleet, closing = StubFleet(Script(hold=Phase.LOADED)), threading.Event()
    thread = threading.Thread(target=run, args=(database, fleet, signer), kwargs={"closing": closing})
    thread.start()
    thread.join(10)
    closing.set()
    thread.join(30)
    job = load(database)
    assert (job.status, job.secondary_status, job.model_uri) == ("Stopped", "MaxRuntimeExceeded", None)
    assert [entry.status for entry in transitions(database)][-2:] == ["Downloading", "MaxRuntimeExceeded"]
    assert job.training_ended
    assert fleet.present == set()


class Namesake(Meter):
    """Deletes the first job the moment that it has ended, and creates another one of its name."""

    def __init__(self, database):
        super().__init__()
        self._database = database
        self.ended = 0

    def end(self, job, public_key):
        super().end(job, public_key)
        self.ended += 1
        if self.ended > 1:
            return
        with self._database.write() as session:
            session.execute(delete(Transition).where(Transition.job == job.name))
            session.execute(delete(LogStream).where(LogStream.job == job.name))
            session.delete(session.get_one(TrainingJob, job.name))
        create(self._database, job.name)


def test_a_runner_leaves_alone_who_takes_its_jobs_name(database, signer):
    create(database)
    fleet = StubFleet(Script())
    enforcement, meter = Enforcement(database, fleet), Namesake(database)
    Runner("job", World(database, fleet, enforcement, STORE, signer, threading.Event(), meter=meter)).run()
    assert len(fleet.specs) == 2
    job = load(database)
    assert (job.status, job.stage, job.plan) == ("InProgress", "starting", None)


def test_a_clock_that_is_set_while_a_job_runs_does_not_end_it(database, signer, monkeypatch):
    create(database)
    fleet = StubFleet(Script(hold=Phase.RUNNING))
    known, looks = fleet.statuses, []

    def look(ids):
        looks.append(load(database).stage)
        if looks.count("training") == 3:
            monkeypatch.setattr(runner, "now_ms", lambda: now_ms() + 90_000_000)
        return known(ids)

    fleet.statuses = look
    serve(database, fleet, signer, lambda: looks.count("training") > 8 or "ending" in looks)
    job = load(database)
    assert (job.stage, job.outcome) == ("starting", None)


@pytest.mark.parametrize("hold", list(Phase)[1:5])
def test_a_new_service_carries_on_where_the_old_one_was_killed(database, signer, hold):
    create(database)
    fleet = StubFleet(Script(hold=hold))
    closing = threading.Event()
    thread = threading.Thread(target=run, args=(database, fleet, signer), kwargs={"closing": closing})
    thread.start()
    wait_for(lambda: fleet.present)
    closing.set()
    thread.join(30)
    assert load(database).status == "InProgress"
    before = fleet.present
    fleet.script.hold = None
    job = run(database, fleet, signer)
    assert job.status == "Completed"
    assert fleet.present == set()
    # A start that was cut short begins anew with new keys; later stages keep their instances.
    again = set(fleet.specs) - before
    assert bool(again) == (hold <= Phase.CONNECTED)


def test_instances_that_vanished_with_their_host_fail_the_job(database, signer):
    create(database)
    fleet = StubFleet(Script(hold=Phase.RUNNING))
    thread = threading.Thread(target=run, args=(database, fleet, signer))
    thread.start()
    wait_for(lambda: load(database).stage == "training")
    fleet.forget()
    thread.join(30)
    job = load(database)
    assert job.failure_reason == "InternalServerError: Instance algo-1 was lost with its host."


@pytest.mark.parametrize(("counted", "complete"), [(24, True), (23, False)])
def test_evidence_says_when_the_guards_counters_cannot_be_complete(database, signer, counted, complete):
    create(database)
    job = run(database, StubFleet(Script(guard=GuardCounters(4, 400, counted, 3000, 0, 0))), signer)
    assert (job.evidence["gaps"] == []) == complete


def test_what_a_refused_placement_left_is_taken_down(database, signer):
    create(database)
    fleet = StubFleet(Script(takes=1))
    job = run(database, fleet, signer)
    assert (job.status, job.failure_reason) == ("Failed", "InternalServerError: no space left on device")
    assert len(fleet.specs) == 1
    assert fleet.present == set()


@pytest.mark.parametrize(
    ("script", "request_", "reason"),
    [
        (Script(exit_codes={"algo-2": 3}), {}, ("Failed", "Failed", "AlgorithmError: , exit code: 3")),
        (Script(), {"MaxRuntimeInSeconds": 0}, ("Stopped", "MaxRuntimeExceeded", None)),
    ],
)
def test_how_a_job_ends_outlives_the_service(database, signer, script, request_, reason):
    """The service is killed between its decision and the containers' end, which then looks like a failure of its own."""
    create(database, **({"StoppingCondition": request_} if request_ else {}))
    fleet = StubFleet(replace(script, deaf=True, hold=Phase.RUNNING))
    closing = threading.Event()
    thread = threading.Thread(target=run, args=(database, fleet, signer), kwargs={"closing": closing})
    thread.start()
    wait_for(lambda: load(database).stage == "training")
    second = next(id_ for id_, spec in fleet.specs.items() if spec.host == "algo-2")
    if script.exit_codes:
        fleet.exit(second, 3)
    wait_for(lambda: fleet.stops)
    closing.set()
    thread.join(30)
    for id_ in fleet.present:
        if id_ != second or not script.exit_codes:
            fleet.exit(id_, 143)
    job = run(database, fleet, signer)
    assert (job.status, job.secondary_status, job.failure_reason) == reason


def test_a_stop_is_repeated_for_agents_that_forgot_it(database, signer):
    create(database)
    fleet = StubFleet(Script(hold=Phase.RUNNING, deaf=True))
    thread = threading.Thread(target=run, args=(database, fleet, signer))
    thread.start()
    wait_for(lambda: load(database).stage == "training")
    with database.write() as session:
        session.get_one(TrainingJob, "job").stop_requested = True
    wait_for(lambda: len(fleet.stops) > 2)
    fleet.script.deaf = False
    thread.join(30)
    assert load(database).status == "Stopped"


class Chatty(StubFleet):
    """Containers that write faster than their logs are taken over."""

    def logs(self, instance_id, offset, final):
        lines = [] if final or self.stops else [LogLine(offset + number, "more") for number in range(2000)]
        return lines, offset + len(lines)


def test_a_job_that_writes_without_end_can_be_stopped(database, signer):
    create(database)
    fleet = Chatty(Script(hold=Phase.RUNNING))
    thread = threading.Thread(target=run, args=(database, fleet, signer))
    thread.start()
    wait_for(lambda: load(database).stage == "training")
    with database.write() as session:
        session.get_one(TrainingJob, "job").stop_requested = True
    thread.join(30)
    assert load(database).status == "Stopped"
    with database.read() as session:
        for stream in session.scalars(select(LogStream)):
            numbers = session.scalars(select(LogEvent.number).where(LogEvent.stream == stream.name)).all()
            assert len(numbers) == stream.events == stream.position > 0


class Endless(StubFleet):
    """The logs of containers that have ended have no end."""

    def logs(self, instance_id, offset, final):
        return [LogLine(offset, "more")], offset + 1


@pytest.mark.parametrize("closes", [False, True])
def test_a_log_without_end_keeps_neither_a_job_that_is_stopped_nor_the_service(database, signer, monkeypatch, closes):
    monkeypatch.setattr(runner, "STOPPED_LOG_SECONDS", 0.1)
    create(database)
    closing = threading.Event()
    thread = threading.Thread(target=run, args=(database, Endless(Script()), signer, "job", closing), daemon=True)
    thread.start()
    wait_for(lambda: load(database).stage == "training")
    if closes:
        closing.set()
    else:
        with database.write() as session:
            session.get_one(TrainingJob, "job").stop_requested = True
    thread.join(20)
    assert not thread.is_alive()
    # Its containers had ended: that it closes is no reason to begin anew.
    assert load(database).stage == "ended"


@pytest.mark.parametrize(("code", "status"), [(0, "Completed"), (1, "Failed")])
def test_a_job_that_ends_while_the_service_closes_has_ended(database, signer, monkeypatch, code, status):
    create(database)
    fleet, ended = StubFleet(Script(exit_codes=dict.fromkeys(("algo-1", "algo-2"), code))), threading.Event()
    manager = Manager(database, fleet, STORE, signer)
    logs = fleet.logs

    def read(instance_id, offset, final):
        if final:
            ended.set()
            while not manager._closing.is_set():
                time.sleep(0.01)
        return logs(instance_id, offset, final)

    monkeypatch.setattr(fleet, "logs", read)
    manager.open()
    assert ended.wait(20)
    manager.close()
    job = load(database)
    assert (job.stage, job.status, job.model_uri is not None) == ("ended", status, True)


def test_what_happens_to_other_jobs_is_no_reason_to_read_a_jobs_logs(database, signer, monkeypatch):
    create(database)
    fleet, looks = StubFleet(Script(hold=Phase.RUNNING)), []
    logs = fleet.logs
    monkeypatch.setattr(fleet, "logs", lambda *arguments: (looks.append(arguments[0]), logs(*arguments))[1])
    thread = threading.Thread(target=run, args=(database, fleet, signer))
    thread.start()
    wait_for(lambda: load(database).stage == "training" and len(looks) >= 2)
    mine = sorted(fleet.present)
    fleet._known["i-other"] = InstanceStatus("i-other", Phase.NEW)
    looks.clear()
    for number in range(300):
        fleet._set("i-other", notes=(str(number),))
        time.sleep(0.001)
    assert len(looks) < 100
    for id_ in mine:
        fleet.exit(id_, 0)
    thread.join(10)
    assert load(database).status == "Completed"


def test_a_full_store_delays_a_job_but_does_not_fail_it(database, signer, monkeypatch):
    create(database)
    errors = [OperationalError("INSERT", {}, Exception("database or disk is full"))] * 2
    original = Journal.drain

    def drain(self, go_on):
        if errors:
            raise errors.pop()
        original(self, go_on)

    monkeypatch.setattr(Journal, "drain", drain)
    assert run(database, StubFleet(Script()), signer).status == "Completed"
    assert errors == []


def test_a_clean_stop_waits_for_an_agent_that_is_being_replaced(database, signer):
    create(database)
    fleet = StubFleet(Script(hold=Phase.RUNNING))
    manager = Manager(database, fleet, STORE, signer)
    manager.open()
    wait_for(lambda: load(database).stage == "training")
    fleet.script.unreachable = 3
    manager.close()
    assert fleet.present == set()
    assert load(database).plan is None


LOST = {"failure": "algo-2 ended before training was complete"}
HOST = "InternalServerError: The training container's monitor was killed on its host: nobody saw how it ended."
MEMORY = "ClientError: Please use an instance type with more memory, or reduce the size of job data processed on an instance."


@pytest.mark.parametrize(
    ("first", "then", "reason"),
    [
        # The instance that ran out of memory is seen last, and first.
        ((1, LOST), (137, {"out_of_memory": True}), f"{MEMORY}, exit code: 137"),
        ((137, {"out_of_memory": True}), (1, LOST), f"{MEMORY}, exit code: 137"),
        # Killed: its peer can say more than that.
        ((137, {}), (1, LOST), f"AlgorithmError: {LOST['failure']}, exit code: 1"),
        # It has said why: what its peer makes of its end does not matter.
        ((1, {"failure": "bad label"}), (1, LOST), "AlgorithmError: bad label, exit code: 1"),
        ((3, {}), (143, {}), "AlgorithmError: , exit code: 3"),
        # Its peer's host failed: whatever it says of that, it is not the algorithm's fault.
        ((1, LOST), (None, {"error": HOST}), HOST),
    ],
)
def test_a_failed_jobs_reason_is_that_of_the_instance_that_knows_it(database, signer, first, then, reason):
    create(database)
    fleet = StubFleet(Script(hold=Phase.RUNNING, deaf=True))
    thread = threading.Thread(target=run, args=(database, fleet, signer))
    thread.start()
    wait_for(lambda: load(database).stage == "training")
    # The first one to end is the one that comes last in the plan.
    for id_, (code, told) in zip(reversed(list(fleet.specs)), (first, then), strict=True):
        fleet.exit(id_, code, **told)
        wait_for(lambda: fleet.stops)
    thread.join(30)
    assert load(database).failure_reason == reason


def test_a_clean_stop_while_a_failed_job_ends_keeps_its_reason(database, signer):
    create(database)
    fleet = StubFleet(Script(hold=Phase.RUNNING, deaf=True))
    manager = Manager(database, fleet, STORE, signer)
    manager.open()
    wait_for(lambda: load(database).stage == "training")
    fleet.exit(next(iter(fleet.specs)), 3)
    wait_for(lambda: fleet.stops)
    manager.close()
    assert fleet.present == set()
    serve(database, fleet, signer, lambda: load(database).status == "Failed")
    assert load(database).failure_reason == "AlgorithmError: , exit code: 3"


class Stuck(StubFleet):
    """One that cannot take instances down at first."""

    refusals = 2

    def destroy(self, ids):
        if self.refusals:
            self.refusals -= 1
            raise Unreachable("the host is away")
        super().destroy(ids)


def test_what_was_measured_of_an_attempt_is_kept_once_however_often_its_instances_are_taken_down(database, signer):
    create(database)
    fleet = Stuck(Script(hold=Phase.RUNNING))
    serve(database, fleet, signer, lambda: load(database).stage == "training")
    assert (fleet.refusals, fleet.present, load(database).plan) == (0, set(), None)
    fleet.script.hold = None
    serve(database, fleet, signer, lambda: load(database).stage == "ended")
    assert [len(attempt["pairs"]) for attempt in load(database).evidence["earlier_attempts"]] == [2]


def test_a_clean_stop_while_a_job_ends_by_a_fault_of_its_host_begins_it_anew(database, signer):
    create(database, RetryStrategy={"MaximumRetryAttempts": 1})
    fleet = StubFleet(Script(hold=Phase.RUNNING, deaf=True))
    manager = Manager(database, fleet, STORE, signer)
    manager.open()
    wait_for(lambda: load(database).stage == "training")
    fleet.exit(next(iter(fleet.specs)), None, error=HOST)
    wait_for(lambda: fleet.stops)
    manager.close()
    assert fleet.present == set()
    fleet.script.hold = None
    serve(database, fleet, signer, lambda: load(database).stage == "ended")
    assert (load(database).status, load(database).retries) == ("Completed", 1), load(database).failure_reason


def test_more_jobs_than_memory_wait_their_turn(database, signer):
    for number in range(6):
        create(database, name=f"job-{number}")
    fleet = StubFleet(Script(), memory=2 * 1024**3 + 4 * RESERVED_BYTES)
    serve(database, fleet, signer, lambda: all(load(database, f"job-{number}").status == "Completed" for number in range(6)))
    assert fleet.most <= 4


@pytest.mark.shows("StoppingCondition.MaxPendingTimeInSeconds")
def test_a_job_that_is_pending_too_long_is_stopped(database, signer):
    create(database, name="first", instances=4)
    condition = {"MaxRuntimeInSeconds": 60, "MaxPendingTimeInSeconds": 7200}
    create(database, name="patient", instances=4, StoppingCondition=condition)
    create(database, name="late", instances=1, StoppingCondition=condition)
    with database.write() as session:
        session.get_one(TrainingJob, "late").created += 1
    fleet = StubFleet(Script(hold=Phase.RUNNING), memory=2 * 1024**3 + 4 * RESERVED_BYTES)
    manager = Manager(database, fleet, STORE, signer)
    manager.open()
    wait_for(lambda: load(database, "patient").secondary_status == "Pending")
    with database.write() as session:
        session.get_one(TrainingJob, "late").created -= 7_201_000 + 1
        session.get_one(TrainingJob, "first").created -= 8_000_000
    manager.wake()
    wait_for(lambda: load(database, "late").status == "Stopped")
    manager.close()
    assert "MaxPendingTimeInSeconds" in transitions(database, "late")[-1].message
    assert load(database, "patient").status == "InProgress"


def test_a_job_larger_than_the_fleet_is_told_so(database, signer):
    create(database, instances=20)
    manager = Manager(database, StubFleet(Script(), memory=8 * 1024**3), STORE, signer)
    manager.open()
    wait_for(lambda: load(database).status == "Failed")
    manager.close()
    assert load(database).failure_reason.startswith("CapacityError: ")


def test_a_clean_stop_takes_instances_down_and_requeues_the_job(database, signer):
    create(database)
    fleet = StubFleet(Script(hold=Phase.RUNNING))
    serve(database, fleet, signer, lambda: load(database).stage == "training")
    assert fleet.present == set()
    assert (load(database).status, load(database).secondary_status) == ("InProgress", "Restarting")
    fleet.script.hold = None
    serve(database, fleet, signer, lambda: load(database).status == "Completed")


def test_what_a_stop_does_to_containers_is_no_end_though_the_service_be_killed_in_its_midst(database, signer, monkeypatch):
    create(database)
    fleet = StubFleet(Script(hold=Phase.RUNNING))
    manager = Manager(database, fleet, STORE, signer)
    manager.open()
    wait_for(lambda: load(database).stage == "training")

    class Killed(Exception):
        pass

    def killed(ids):
        for id_ in ids:
            fleet.exit(id_, 137)
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(fleet, "destroy", killed)
        manager.close()
    fleet.script.hold = None
    serve(database, fleet, signer, lambda: load(database).stage == "ended")
    assert load(database).status == "Completed", load(database).failure_reason


class Forgetful(StubFleet):
    """A host that another job's last instance leaves, with the VPC's rules, while the next job's are being placed."""

    def place(self, specs):
        self.rules.clear()
        super().place(specs)


def test_rules_that_left_the_host_with_another_jobs_last_instance_are_there_for_the_next(database, signer):
    create(database)
    fleet = Forgetful(Script())
    assert run(database, fleet, signer).status == "Completed"
    assert set(fleet.rules) == {spec.vpc_id for spec in fleet.specs.values()}


def wait_for(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_job_for_which_there_is_no_room_on_any_host_now_is_pending_and_goes_on_when_there_is(database, signer):
    create(database)
    job = run(database, StubFleet(Script(full=2)), signer)
    assert job.status == "Completed"
    told = [(entry.status, entry.message) for entry in transitions(database)]
    assert told[1:5] == [
        ("Starting", "Preparing the instances for training"),
        ("Pending", "Training job waiting for capacity"),
        ("Starting", "Preparing the instances for training"),
        ("Downloading", "Downloading input data"),
    ]


class Shrinking(StubFleet):
    """Once a job has asked for room, hosts are gone that could have held it."""

    def place(self, specs):
        try:
            super().place(specs)
        finally:
            self.script.ever = False


class Stumbling(Shrinking):
    """As that, and away when it is asked for the second time, so that the stage begins anew."""

    asked = 0

    def place(self, specs):
        self.asked += 1
        if self.asked == 2:
            raise Unreachable("the hosts are away")
        super().place(specs)


def test_a_job_that_no_hosts_could_ever_hold_fails_unless_it_has_run_on_hosts_that_are_gone(database, signer):
    create(database)
    job = run(database, StubFleet(Script(full=1, ever=False)), signer)
    assert job.failure_reason.startswith("CapacityError: Unable to provision requested ML compute capacity.")
    create(database, "again")
    with database.write() as session:
        session.get_one(TrainingJob, "again").retries = 1
    assert run(database, StubFleet(Script(full=1, ever=False)), signer, "again").status == "Completed"
    create(database, "waits")
    assert run(database, Shrinking(Script(full=2)), signer, "waits").status == "Completed"
    create(database, "stumbles")
    assert run(database, Stumbling(Script(full=2)), signer, "stumbles").status == "Completed"


def test_a_job_waits_for_room_no_longer_than_it_may(database, signer):
    limits = {"MaxRuntimeInSeconds": 60, "MaxPendingTimeInSeconds": 0}
    create(database, StoppingCondition=limits)
    job = run(database, StubFleet(Script(full=9)), signer)
    assert (job.status, job.secondary_status) == ("Stopped", "Stopped")
    create(database, "stopped")
    with database.write() as session:
        session.get_one(TrainingJob, "stopped").stop_requested = True
    assert run(database, StubFleet(Script(full=9)), signer, "stopped").status == "Stopped"


def test_instances_go_to_the_zones_of_their_subnets_of_those_that_have_hosts(database, signer):
    network = two_zones(database)
    for name, zones in (("all", None), ("one", ("us-west-2b",)), ("none", ("us-west-2c",))):
        create(database, name, encrypted=False, VpcConfig=network)
        fleet = StubFleet(Script(zones=zones))
        job = run(database, fleet, signer, name)
        found = [spec.zone for spec in fleet.specs.values()]
        if name == "all":
            assert found == ["us-west-2a", "us-west-2b"]
        elif name == "one":
            assert found == ["us-west-2b"] * 2
        else:
            assert job.failure_reason.startswith("CapacityError: Unable to provision requested ML compute capacity.")
            assert job.failure_reason.endswith("zones of the job's subnets: us-west-2a, us-west-2b.")
    create(database, "again", encrypted=False, VpcConfig=network)
    with database.write() as session:
        session.get_one(TrainingJob, "again").retries = 1
    job = run(database, StubFleet(Script(zones=("us-west-2c",))), signer, "again")
    assert (job.status, job.stage, job.plan) == ("InProgress", "starting", None)


def test_a_tag_asks_for_a_host_for_each_instance(database, signer):
    for name, value in (("spread", "spread"), ("pack", "pack"), ("mute", None)):
        create(database, name)
        if value is not None:
            with database.write() as session:
                session.add(Tag(arn=load(database, name).arn, key="phalanx:placement", value=value))
        fleet = StubFleet(Script())
        run(database, fleet, signer, name)
        assert {spec.spread for spec in fleet.specs.values()} == {value == "spread"}


def test_a_job_says_that_it_waits_for_its_image(database, signer):
    class Fetching(StubFleet):
        looks = 0

        def advance(self, ids, goal):
            super().advance(ids, goal)
            self.looks = 2 if goal == Phase.LOADED else 0

        def statuses(self, ids):
            known = super().statuses(ids)
            if self.looks == 0:
                return known
            self.looks -= 1
            return {id_: replace(each, fetching=True, phase=Phase.CONNECTED) for id_, each in known.items()}

    create(database)
    assert run(database, Fetching(Script()), signer).status == "Completed"
    told = [entry.message for entry in transitions(database) if entry.status == "Downloading"]
    assert told[:2] == ["Downloading input data", "Downloading the training image"]
