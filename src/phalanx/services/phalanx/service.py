"""The service `phalanx`; its model lies in `wire/models`, so that boto3 and the AWS CLI can speak it too."""

from __future__ import annotations

from functools import partial

from phalanx.jobs.control import JobControl
from phalanx.services.phalanx.encryption import describe_training_job_encryption
from phalanx.store.database import Database
from phalanx.wire.service import Service


def service(database: Database, control: JobControl) -> Service:
    """The service over a database and the jobs room."""
    return Service("phalanx", {"DescribeTrainingJobEncryption": partial(describe_training_job_encryption, database, control)})
