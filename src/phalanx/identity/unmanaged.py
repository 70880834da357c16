"""Roles that exist although nobody created them: what SDKs and examples call their role need not be set up first."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from phalanx.store.identity import Role

SUGGESTED = "SageMakerTraining"
"""The role that is always there, for those who have to choose one."""
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"},
    ],
}


def exists(transaction: Session, name: str) -> bool:
    """Whether a role that nobody created exists: any does, until roles are managed, which they are from the first that somebody
    creates."""
    return name == SUGGESTED or transaction.scalar(select(Role.name).limit(1)) is None
