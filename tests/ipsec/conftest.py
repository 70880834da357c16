from __future__ import annotations

from collections.abc import Iterator

import pytest

from ipsec.lab import Wire, wired


@pytest.fixture
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    """Two instances (or as many as the test's parameter says) that reach each other by way of a router, in the clear."""
    with wired(getattr(request, "param", 2)) as made:
        yield made
