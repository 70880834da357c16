"""The AWS services that a VPC may have endpoints for: Amazon S3."""

from __future__ import annotations


def s3(region: str) -> str:
    """Name of S3's endpoint service in a region."""
    return f"com.amazonaws.{region}.s3"
