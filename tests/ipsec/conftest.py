from __future__ import annotations

import os
import resource
from collections.abc import Iterator

import pytest

from ipsec.lab import Wire, wired


@pytest.fixture
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    """Two instances (or as many as the test's parameter says) that reach each other by way of a router, in the clear."""
    with wired(getattr(request, "param", 2)) as made:
        yield made


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """This process has so many descriptors that the next have numbers that select(2) does not know."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    taken = [os.open("/dev/null", os.O_RDONLY)]
    while taken[-1] < 1024:
        taken.append(os.dup(taken[0]))
    yield
    for descriptor in taken:
        os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
