"""The platform's sessions of execution roles."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select

from phalanx.identity import execution, names
from phalanx.identity.directory import Directory
from phalanx.identity.execution import LENT, LENT_LEAST, ExecutionRoles
from phalanx.identity.seal import Seal
from phalanx.store.database import Database, sqlite_url
from phalanx.store.identity import Role, Session

ACCOUNT = "123456789012"
DAY = 86_400


@pytest.fixture
def directory(tmp_path):
    database = Database(sqlite_url(tmp_path / "phalanx.db"))
    database.migrate()
    yield Directory(database, Seal(tmp_path / "identity.key"), ACCOUNT, require_roles=True)
    database.close()


def create(directory, name="trainer", service="sagemaker.amazonaws.com", path="/"):
    """A role that trusts a service; its ARN."""
    trust = {"Statement": [{"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}]}
    with directory.write() as session:
        role = Role(name=name, id=names.unique_id("AROA"), path=path, trust=json.dumps(trust), description=None)
        session.add(role)
        session.flush()
        return names.role_arn(ACCOUNT, role)


def delete(directory, name="trainer"):
    with directory.write() as session:
        session.delete(session.get_one(Role, name))


def test_a_session_speaks_for_its_role_and_lasts_longer_than_the_job(directory):
    arn = create(directory)
    key = ExecutionRoles(directory).assume(arn, 28 * DAY)
    assert key.expires > datetime.now(UTC) + timedelta(days=28 + 30)
    who = directory.find(key.id)
    assert (who.arn, who.principal.arn) == (arn, f"arn:aws:sts::{ACCOUNT}:assumed-role/trainer/SageMaker")
    assert who.principal.secret == key.secret
    assert not any(hidden in repr(key) for hidden in (key.secret, key.token))


def test_a_guard_is_asked_as_the_role(directory):
    arn = create(directory)
    roles = ExecutionRoles(directory)
    caller = roles.caller(arn, "eu-west-1")
    assert caller.arn == f"arn:aws:sts::{ACCOUNT}:assumed-role/trainer/SageMaker"
    assert (caller.region, directory.find(caller.access_key).arn) == ("eu-west-1", arn)
    delete(directory)
    assert roles.caller(arn, "eu-west-1") is None


def test_containers_are_lent_a_short_session_of_their_own_and_a_new_one_in_time(directory, monkeypatch):
    arn = create(directory)
    roles = ExecutionRoles(directory)
    platform, lent = roles.assume(arn, DAY), roles.lend(arn)
    assert lent.id != platform.id
    assert timedelta(seconds=LENT_LEAST) < lent.expires - datetime.now(UTC) <= timedelta(seconds=LENT)
    assert directory.find(lent.id).principal.arn == f"arn:aws:sts::{ACCOUNT}:assumed-role/trainer/SageMaker"
    assert roles.lend(arn) == lent
    monkeypatch.setattr(execution, "LENT_LEAST", LENT)
    assert roles.lend(arn).id != lent.id
    delete(directory)
    assert roles.lend(arn) is None
    assert directory.find(lent.id) is None


def test_jobs_of_a_role_share_a_session_while_it_lasts_long_enough(directory):
    arn, other = create(directory), create(directory, "other")
    roles = ExecutionRoles(directory)
    first = roles.assume(arn, DAY)
    assert roles.assume(arn, 20 * DAY) == first
    longer = roles.assume(arn, 40 * DAY)
    assert longer.id != first.id
    assert roles.assume(arn, DAY) == longer
    assert roles.assume(other, DAY).id != longer.id
    with directory.database.read() as session:
        assert session.scalar(select(func.count(Session.id))) == 3


def test_a_role_made_anew_is_another(directory):
    arn = create(directory)
    roles = ExecutionRoles(directory)
    first = roles.assume(arn, DAY)
    delete(directory)
    assert directory.find(first.id) is None
    assert roles.assume(arn, DAY) is None
    create(directory)
    assert directory.find(first.id) is None
    again = roles.assume(arn, DAY)
    assert directory.find(again.id).arn == arn


def test_what_is_no_role_of_sagemakers_is_not_assumed(directory):
    roles = ExecutionRoles(directory)
    elsewhere = create(directory, "elsewhere", path="/service-role/")
    assert roles.assume(elsewhere, DAY) is not None
    for arn in (
        create(directory, "lambda", service="lambda.amazonaws.com"),
        f"arn:aws:iam::{ACCOUNT}:role/elsewhere",
        f"arn:aws:iam::{ACCOUNT}:role/nobody",
        f"arn:aws:iam::{ACCOUNT}:role/SageMakerTraining",
        "arn:aws:iam::999999999999:role/service-role/elsewhere",
    ):
        assert roles.assume(arn, DAY) is None


def test_no_role_exists_that_nobody_created_where_roles_are_required(directory):
    lenient = Directory(directory.database, directory.seal, ACCOUNT)
    for name in ("Any", "SageMakerTraining"):
        arn = f"arn:aws:iam::{ACCOUNT}:role/{name}"
        assert directory.trust(arn) is None
        assert lenient.trust(arn) is not None
