"""What the process of the door is told."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

VARIABLE = "PHALANX_S3_GATEWAY"
"""The environment variable that holds the settings: only root, and whoever runs the process, can read it."""
CONTROL = "gateway.sock"
"""The door's own Unix socket, beside the server's: both processes work in that directory."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the door listens, and what it reads. A door with other settings is replaced: `version` is the program's,
    `fingerprint` the certificate's."""

    version: str
    account: str
    region: str
    database: str
    """SQLAlchemy's URL; a password comes by PGPASSWORD or ~/.pgpass."""
    identity_key: str
    trail: str
    host: str
    port: int
    tls_host: str = ""
    tls_port: int = 0
    """0: not over TLS."""
    certificate: str = ""
    key: str = ""
    fingerprint: str = ""

    def to_json(self) -> str:
        """As `from_json` reads it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """What `to_json` wrote."""
        return cls(**json.loads(text))
