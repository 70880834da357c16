"""What the steps of an instance raise."""

from __future__ import annotations


class InstanceError(Exception):
    """A step failed for good; the text is the job's FailureReason."""


class NotYet(Exception):
    """A step is not done but may be, if tried again."""
