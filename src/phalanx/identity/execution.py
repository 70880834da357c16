"""Execution roles: as what the platform acts where it does something for a job (CreateTrainingJob.RoleArn)."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

from phalanx.identity import names
from phalanx.identity.directory import Directory
from phalanx.identity.sessions import Credentials, begin
from phalanx.identity.trust import trusts_sagemaker
from phalanx.store.identity import role_named
from phalanx.wire.service import Caller, Client

_SPARE = 30 * 86_400
"""Seconds by which a session outlasts the longest run of the jobs that have it: they wait, download and upload as well."""
LENT, LENT_LEAST = 7200, 5400
"""Seconds that a session for containers lasts, and that it has still to last when it is lent."""


class ExecutionRoles:
    """Sessions of roles: of each role one that the platform has, and one that containers are lent. Safe from any thread.

    What a session may do follows the role's policies as they are at each request, and it ends with the role.
    """

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._sessions: dict[tuple[str, str], Credentials] = {}

    def assume(self, arn: str, seconds: int) -> Credentials | None:
        """Credentials with which the platform acts as a role for a job that runs `seconds` at most; None where there is no such
        role or it does not trust SageMaker. Raises what the database does while it is away."""
        return self._session("platform", arn, seconds + _SPARE, seconds + 2 * _SPARE)

    def caller(self, arn: str, region: str) -> Caller | None:
        """As whom a guard is asked what a role may in a region; None as above. Raises as above."""
        key = self.assume(arn, 0)
        who = None if key is None else self._directory.find(key.id)
        if who is None or key is None:
            return None
        # Nothing of it crosses a wire.
        inside = Client(secure=True)
        return Caller(self._directory.account, region, key.id, who.principal.arn, who.principal.user_id, "", inside)

    def lend(self, arn: str) -> Credentials | None:
        """Credentials of a role for containers, which must ask again before they expire; None as above. Raises as above."""
        return self._session("container", arn, LENT_LEAST, LENT)

    def _session(self, holder: str, arn: str, least: int, seconds: int) -> Credentials | None:
        """The session that one kind of holder has of a role, and keeps for `least` seconds; a new one lasts `seconds`."""
        with self._directory.database.read() as transaction:
            role = role_named(transaction, arn.rpartition("/")[2])
            if role is None or names.role_arn(self._directory.account, role) != arn or not trusts_sagemaker(role.trust):
                return None
            name, id = role.name, role.id
        with self._lock:
            known = self._sessions.get((holder, id))
            if known is None or known.expires < datetime.now(UTC) + timedelta(seconds=least):
                with self._directory.database.write() as transaction:
                    known = begin(transaction, self._directory.seal, "role", name, id, names.SESSION, seconds)
                self._sessions[holder, id] = known
            return known
