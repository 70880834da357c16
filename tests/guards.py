"""A guard for tests of what is behind it; that of the product is identity's Authority."""

from phalanx.wire.service import Caller, Client, Event, Members


class Open:
    """Implements wire.service.Guard: whoever has a key may do everything, and nothing is kept."""

    def admit(self, client: Client, access_key: str) -> bool:
        """See Guard."""
        return True

    def refused(self, client: Client) -> bool:
        """See Guard."""
        return True

    def accepted(self, client: Client, access_key: str) -> None:
        """See Guard."""

    def authorize(self, caller: Caller, service: str, operation: str, members: Members) -> None:
        """See Guard."""

    def ready(self) -> bool:
        """See Guard."""
        return True

    def record(self, event: Event) -> None:
        """See Guard."""
