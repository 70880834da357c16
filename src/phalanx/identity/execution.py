"""Execution roles: as what the platform acts where it does something for a job (CreateTrainingJob.RoleArn)."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

from sqlalchemy import func, select

from phalanx.identity import names
from phalanx.identity.directory import Directory
from phalanx.identity.sessions import Credentials, begin
from phalanx.identity.trust import trusts_sagemaker
from phalanx.store.identity import Role

SESSION = "SageMaker"
"""The name of SageMaker's sessions, in AWS's audit trails too."""
_SPARE = 30 * 86_400
"""Seconds by which a session outlasts the longest run of the jobs that have it: they wait, download and upload as well."""


class ExecutionRoles:
    """The platform's sessions of roles: one for each role, for all its jobs. Safe from any thread.

    What a session may do follows the role's policies as they are at each request, and it ends with the role.
    """

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._sessions: dict[str, Credentials] = {}

    def assume(self, arn: str, seconds: int) -> Credentials | None:
        """Credentials of a role for a job that runs `seconds` at most; None where there is no such role or it does not trust
        SageMaker. Raises what the database does while it is away."""
        with self._directory.database.read() as transaction:
            role = transaction.scalar(select(Role).where(func.lower(Role.name) == arn.rpartition("/")[2].lower()))
            if role is None or names.role_arn(self._directory.account, role) != arn or not trusts_sagemaker(role.trust):
                return None
            name, id = role.name, role.id
        with self._lock:
            known = self._sessions.get(id)
            if known is None or known.expires < datetime.now(UTC) + timedelta(seconds=seconds + _SPARE):
                with self._directory.database.write() as transaction:
                    known = begin(transaction, self._directory.seal, "role", name, id, SESSION, seconds + 2 * _SPARE)
                self._sessions[id] = known
            return known
