"""DescribeTrainingJobEncryption."""

from __future__ import annotations

import json

from sqlalchemy import select

from phalanx.jobs.control import JobControl
from phalanx.jobs.cost import estimate
from phalanx.store.database import Database
from phalanx.store.jobs import TrainingJob
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Caller, Members


def describe_training_job_encryption(database: Database, control: JobControl, _: Caller, members: Members) -> Members:
    """The report of a job as JSON: signed and final once it has ended, measured now while it has instances, else none.

    With it, once the job has ended, an estimate of what encryption cost it, where its data planes counted their work.
    """
    name = members["TrainingJobName"]
    with database.read() as session:
        row = session.execute(select(TrainingJob.status, TrainingJob.evidence).filter_by(name=name)).first()
    if row is None:
        raise AwsError("ResourceNotFound", "Requested resource not found.")
    if row.evidence is not None:
        answer: Members = {"Signed": True, "Report": json.dumps(row.evidence, ensure_ascii=False)}
        if row.evidence["pairs"] and (cost := estimate(row.evidence)) is not None:
            answer["EstimatedCost"] = {
                "LikelySeconds": cost.likely,
                "MostSeconds": cost.most,
                "BytesBetweenInstances": cost.bytes,
            }
        return answer
    report = control.measured(name)
    return {"Signed": False} if report is None else {"Signed": False, "Report": json.dumps(report, ensure_ascii=False)}
