"""Policies that AWS manages and that people attach by name, as far as they concern what is served here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

_PREFIX = "arn:aws:iam::aws:policy/"
S3_FULL_ACCESS = f"{_PREFIX}AmazonS3FullAccess"


def _document(*actions: str, also: Sequence[dict[str, Any]] = ()) -> str:
    return _of([{"Effect": "Allow", "Action": list(actions), "Resource": "*"}, *also])


def _of(statements: Sequence[dict[str, Any]]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


_PASS_TO_SAGEMAKER = {
    "Effect": "Allow",
    "Action": "iam:PassRole",
    "Resource": "arn:aws:iam::*:role/*",
    "Condition": {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}},
}
POLICIES = {
    f"{_PREFIX}{name}": document
    for name, document in {
        "AdministratorAccess": _document("*"),
        "PowerUserAccess": _of(
            [
                {"Effect": "Allow", "NotAction": ["iam:*"], "Resource": "*"},
                {"Effect": "Allow", "Action": ["iam:ListRoles"], "Resource": "*"},
            ]
        ),
        "ReadOnlyAccess": _document(
            *(
                f"{service}:{verb}*"
                for service in ("sagemaker", "ec2", "logs", "cloudwatch", "iam", "s3", "ecr")
                for verb in ("Describe", "Get", "List")
            ),
            "sagemaker:Search",
            "logs:FilterLogEvents",
            "phalanx:Describe*",
        ),
        "AmazonSageMakerFullAccess": _document(
            "sagemaker:*",
            "phalanx:*",
            "logs:Describe*",
            "logs:Get*",
            "logs:FilterLogEvents",
            "cloudwatch:Get*",
            "cloudwatch:List*",
            "ec2:Describe*",
            "ecr:BatchCheckLayerAvailability",
            "ecr:BatchGetImage",
            "ecr:GetAuthorizationToken",
            "ecr:GetDownloadUrlForLayer",
            "iam:GetRole",
            "iam:ListRoles",
            "s3:AbortMultipartUpload",
            "s3:CreateBucket",
            "s3:DeleteObject",
            "s3:GetBucketLocation",
            "s3:GetObject",
            "s3:ListAllMyBuckets",
            "s3:ListBucket",
            "s3:PutObject",
            also=[_PASS_TO_SAGEMAKER],
        ),
        "AmazonSageMakerReadOnly": _document(
            "sagemaker:Describe*",
            "sagemaker:Get*",
            "sagemaker:List*",
            "sagemaker:Search",
            "phalanx:Describe*",
            "logs:Describe*",
            "logs:Get*",
            "cloudwatch:Get*",
            "cloudwatch:List*",
        ),
        "AmazonEC2FullAccess": _document("ec2:*"),
        "AmazonEC2ReadOnlyAccess": _document("ec2:Describe*", "ec2:Get*"),
        "AmazonVPCFullAccess": _document("ec2:*"),
        "AmazonVPCReadOnlyAccess": _document("ec2:Describe*", "ec2:Get*"),
        "AmazonS3FullAccess": _document("s3:*"),
        "AmazonS3ReadOnlyAccess": _document("s3:Get*", "s3:List*"),
        "CloudWatchLogsReadOnlyAccess": _document("logs:Describe*", "logs:Get*", "logs:List*", "logs:FilterLogEvents"),
        "CloudWatchReadOnlyAccess": _document("cloudwatch:Get*", "cloudwatch:List*", "logs:Describe*", "logs:Get*"),
        "IAMFullAccess": _document("iam:*"),
        "IAMReadOnlyAccess": _document("iam:Get*", "iam:List*", "iam:Simulate*"),
    }.items()
}
"""Documents by ARN."""
