"""EC2's handlers, called directly; what goes in and comes out is held against botocore's model."""

import datetime

import botocore.session
import pytest
from botocore.validate import ParamValidator
from sqlalchemy import select

from phalanx.jobs import exits, interfaces
from phalanx.services.ec2.service import service
from phalanx.store.base import Base
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Caller

CALLER = Caller("123456789012", "us-east-1", "AKIAEXAMPLE", "arn:aws:iam::123456789012:user/admin", "AIDAEXAMPLE", "r-1")
MODEL = botocore.session.get_session().get_service_model("ec2")

ALL_OUT = {
    "IpProtocol": "-1",
    "UserIdGroupPairs": [],
    "IpRanges": [{"CidrIp": "0.0.0.0/0"}],
    "Ipv6Ranges": [],
    "PrefixListIds": [],
}

DEPARTURES = {("AttachmentStatus", "available"), ("State", "available"), ("NetworkInterfaceType", "nat_gateway")}
"""Values that EC2's documentation and the service have, and the model has not."""


class StubControl:
    """A jobs room that only remembers which VPCs' rules or routes changed, and what was committed when it was told."""

    def __init__(self, database):
        self.database = database
        self.changed = []
        self.exits = {}

    def network_changed(self, *vpc_ids):
        with self.database.read() as session:
            for vpc_id in vpc_ids:
                self.changed.append((vpc_id, interfaces.security_groups(session, vpc_id)))
                self.exits[vpc_id] = exits.of_vpc(session, vpc_id)


class Ec2:
    """A client: attribute access gives an operation, by its name in the model."""

    def __init__(self, database):
        self.database = database
        self.control = StubControl(database)
        self.handlers = service(database, self.control).handlers

    def __getattr__(self, operation):
        shapes = MODEL.operation_model(operation)

        def call(**members):
            report = ParamValidator().validate(members, shapes.input_shape)
            assert not report.has_errors(), report.generate_report()
            response = self.handlers[operation](CALLER, members)
            conform(shapes.output_shape, response, operation)
            return response

        return call

    def refused(self, code, operation, **members):
        """Call an operation that must fail; returns its message. Nothing may have changed."""
        before, told = self.everything(), len(self.control.changed)
        with pytest.raises(AwsError) as refusal:
            getattr(self, operation)(**members)
        assert refusal.value.code == code
        assert refusal.value.status == 400
        assert self.everything() == before
        assert len(self.control.changed) == told
        return refusal.value.message

    def everything(self):
        with self.database.read() as session:
            return {table.name: sorted(map(repr, session.execute(select(table)))) for table in Base.metadata.sorted_tables}

    def group(self, group_id):
        return self.DescribeSecurityGroups(GroupIds=[group_id])["SecurityGroups"][0]


def conform(shape, value, path):
    """Every member is one that the model has, of its type, and enums have one of their values."""
    if shape is None:
        assert value == {}, path
    elif shape.type_name == "structure":
        for name, member in value.items():
            assert name in shape.members, f"{path}.{name}"
            conform(shape.members[name], member, f"{path}.{name}")
    elif shape.type_name == "list":
        for member in value:
            conform(shape.member, member, path)
    else:
        kinds = {"string": str, "integer": int, "long": int, "boolean": bool, "timestamp": datetime.datetime}
        assert type(value) is kinds[shape.type_name], path
        known = getattr(shape, "enum", None) or [value]
        assert value in known or (shape.name, value) in DEPARTURES, path


def self_reference(protocol, group, **ports):
    return {"IpProtocol": protocol, "UserIdGroupPairs": [{"GroupId": group}], **ports}
