"""Errors as AWS answers them."""

from __future__ import annotations


class AwsError(Exception):
    """An error that the caller sees: `code` as the service model or AWS's common errors name it, HTTP `status`, `message`."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


class Denied(Exception):
    """The caller is known, and may not do this. Each protocol has a code of its own for it."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
