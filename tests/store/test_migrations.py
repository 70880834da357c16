"""From every schema that there ever was to the newest, with what is in it."""

from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, Table, select

import phalanx.store
from phalanx.services.ec2 import network_acls
from phalanx.store import experiments, identity, jobs, keys, lineage, metrics, network, replicas, tuning  # noqa: F401
from phalanx.store.base import Base
from phalanx.store.database import REVISION, Database, sqlite_url
from phalanx.store.network import ResourceTag

MIGRATIONS = str(Path(phalanx.store.__file__).parent / "migrations")
REVISIONS = [each.revision for each in ScriptDirectory(MIGRATIONS).walk_revisions()]
ROW = {"id": "A", "secret": "sealed", "user_name": "u", "active": True, "created": 1}


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path):
    on_disk = request.param == "sqlite"
    database = Database(sqlite_url(tmp_path / "phalanx.db") if on_disk else request.getfixturevalue("postgresql"))
    yield database
    database.close()


def test_the_last_is_this_versions():
    assert ScriptDirectory(MIGRATIONS).get_current_head() == REVISION


def upgrade(database, revision, **rows):
    """A database of an earlier schema, with rows as that has them, whatever the newest one makes of it."""
    config = Config()
    config.set_main_option("script_location", MIGRATIONS)
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    with database.engine.begin() as connection:
        for table, content in rows.items():
            connection.execute(Table(table, MetaData(), autoload_with=connection).insert(), content)


@pytest.mark.parametrize("revision", REVISIONS)
def test_upgrade(database, revision):
    upgrade(database, revision, access_keys=ROW)
    database.migrate()
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
        row = connection.execute(select(Table("access_keys", MetaData(), autoload_with=connection))).one()
    assert row._mapping["secret"] == "sealed"


def test_tags_of_interfaces_that_are_gone_go(database):
    vpc = {"id": "vpc-1", "cidr": "10.0.0.0/16", "is_default": False, "state": "available", "created": 1}
    subnet = {
        "id": "subnet-1",
        "vpc_id": "vpc-1",
        "cidr": "10.0.0.0/24",
        "zone": "us-east-1a",
        "is_default": False,
        "created": 1,
    }
    interface = {"id": "eni-here", "subnet_id": "subnet-1", "vpc_id": "vpc-1", "address": "10.0.0.4", "description": ""}
    upgrade(
        database,
        "0002",
        vpcs={**vpc, "dns_support": True, "dns_hostnames": False, "usage_metrics": False},
        subnets={**subnet, "map_public": False},
        network_interfaces={**interface, "status": "in-use", "job": "job", "host": "algo-1", "created": 1},
        resource_tags=[{"resource_id": id, "key": "a", "value": "b"} for id in ("eni-here", "eni-gone", "vpc-1")],
    )
    database.migrate()
    with database.read() as session:
        assert set(session.scalars(select(ResourceTag.resource_id))) == {"eni-here", "vpc-1"}


def test_network_acls_that_there_were_allow_everything(database):
    vpc = {"id": "vpc-1", "cidr": "10.0.0.0/16", "is_default": False, "state": "available", "created": 1}
    upgrade(
        database,
        "0005",
        vpcs={**vpc, "dns_support": True, "dns_hostnames": False, "usage_metrics": False},
        network_acls={"id": "acl-1", "vpc_id": "vpc-1"},
    )
    database.migrate()
    with database.write() as session:
        acl = session.get_one(network.NetworkAcl, "acl-1")
        made = network.NetworkAcl(vpc_id="vpc-1", entries={})
        network_acls.add_default(session, "vpc-1")
        session.add(made)
        session.flush()
        (new,) = [each for each in session.scalars(select(network.NetworkAcl)) if each not in (acl, made)]
        assert (acl.vpc_id, acl.is_default, acl.entries) == ("vpc-1", True, new.entries)


def test_trial_components_of_deleted_jobs_follow_no_namesake(database):
    user = {"created": 1, "created_by": {}, "modified": 1, "modified_by": {}}
    metric = {"MetricName": "loss", "Count": 1}
    contents = {
        "of-nothing": (None, {"Metrics": [metric]}),
        "follows": ("arn:here", {"Metrics": [metric]}),
        "left": ("arn:gone", {"Parameters": {"a": {"NumberValue": 1.0}}}),
        "taken-over": ("arn:here", {"Metrics": [metric, {**metric, "SourceArn": "arn:here"}]}),
    }
    job = {"name": "here", "arn": "arn:here", "caller": "", "instances": 1, "encrypted": False, "retries": 0, "idle": 0}
    stages = {
        "stop_requested": False,
        "stage": "ended",
        "status": "Completed",
        "secondary_status": "Completed",
        "request": {},
        "metrics": {},
    }
    upgrade(
        database,
        "0002",
        training_jobs={**job, **stages, "created": 1, "modified": 1},
        trial_components=[
            {
                "name": name,
                "arn": f"arn:{name}",
                "display_name": name,
                "source": source,
                "run": None,
                "content": content,
                **user,
            }
            for name, (source, content) in contents.items()
        ],
    )
    database.migrate()
    with database.read() as session:
        found = {each.name: each.content for each in session.scalars(select(experiments.TrialComponent))}
    settled = {name for name, content in found.items() if content.pop("Settled", False)}
    assert settled == {"left", "taken-over"}
    assert found == {name: content for name, (_, content) in contents.items()}
