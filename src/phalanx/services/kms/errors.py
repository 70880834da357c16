"""KMS's errors, and what a request asks for that is not served."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec

from phalanx.jobs.keyring import KeyFault
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Members

P = ParamSpec("P")


def answered(handler: Callable[P, Members]) -> Callable[P, Members]:
    """A handler whose KeyFaults are answered as the errors that they name."""

    @functools.wraps(handler)
    def answer(*args: P.args, **kwargs: P.kwargs) -> Members:
        try:
            return handler(*args, **kwargs)
        except KeyFault as fault:
            raise AwsError(fault.code, fault.message) from fault

    return answer


def refuse(members: Members, **served: tuple[Any, ...]) -> None:
    """Raise UnsupportedOperationException for the first of the members named that has another value than those served."""
    for name, values in served.items():
        if name in members and members[name] not in values:
            hint = f"give {' or '.join(map(str, values))}" if values else "leave it out"
            raise AwsError("UnsupportedOperationException", f"{name} {members[name]!r} is not served here: {hint}.")
