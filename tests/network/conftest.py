from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import pytest

from network.lab import Vpc
from phalanx.network import namespace

_numbers = itertools.count()


@pytest.fixture
def prefix() -> Iterator[str]:
    """What the names of a test's namespaces begin with; all of them, and all descriptors, are gone afterwards."""
    made = f"phxt{os.getpid()}-{next(_numbers)}-"
    before = len(os.listdir("/proc/self/fd"))
    yield made
    for name in namespace.listing(made):
        assert not namespace.processes(name)
        namespace.delete(name)
    assert namespace.listing(made) == []
    assert len(os.listdir("/proc/self/fd")) <= before


@pytest.fixture
def vpc(prefix: str) -> Vpc:
    """A router that stands, with no rules yet."""
    made = Vpc(prefix)
    made.router.ensure()
    return made
