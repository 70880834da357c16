"""EC2 for tests: its handlers on a SQLite file, and a live server that boto3 and the AWS CLI can reach."""

import boto3
import pytest
from botocore.config import Config
from ec2_client import Ec2
from live_server import serving

from clients import AwsCli
from phalanx.services.ec2.service import ensure_default_vpc, service
from phalanx.store.base import Base
from phalanx.store.database import Database, sqlite_url


@pytest.fixture
def ec2(tmp_path):
    database = Database(sqlite_url(tmp_path / "phalanx.db"))
    Base.metadata.create_all(database.engine)
    yield Ec2(database)
    database.close()


@pytest.fixture
def vpc(ec2):
    return ec2.CreateVpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]


@pytest.fixture
def group(ec2, vpc):
    return ec2.CreateSecurityGroup(GroupName="training", Description="for jobs", VpcId=vpc)["GroupId"]


class StubControl:
    """A jobs room that only remembers which VPCs' rules or routes changed."""

    def __init__(self):
        self.changed = []

    def network_changed(self, *vpc_ids):
        self.changed += vpc_ids


@pytest.fixture
def live_database(tmp_path):
    database = Database(sqlite_url(tmp_path / "phalanx.db"))
    Base.metadata.create_all(database.engine)
    ensure_default_vpc(database, "eu-central-1")
    yield database
    database.close()


@pytest.fixture
def control():
    return StubControl()


@pytest.fixture
def services(live_database, control):
    """What the server serves."""
    return [service(live_database, control)]


@pytest.fixture
def settings(services):
    """What boto3 needs to reach the server."""
    with serving(services) as url:
        yield {
            "endpoint_url": url,
            "region_name": "eu-central-1",
            "aws_access_key_id": "AKIAEXAMPLE",
            "aws_secret_access_key": "secret",
            "config": Config(retries={"total_max_attempts": 1}, max_pool_connections=20),
        }


@pytest.fixture
def client(settings):
    client = boto3.client("ec2", **settings)
    yield client
    client.close()


@pytest.fixture
def aws(settings, tmp_path):
    """The AWS CLI, pointed at the live server."""
    return AwsCli(
        tmp_path,
        endpoint=settings["endpoint_url"],
        region=settings["region_name"],
        access_key=settings["aws_access_key_id"],
        secret=settings["aws_secret_access_key"],
    )
