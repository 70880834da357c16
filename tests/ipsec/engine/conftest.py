"""Engines without packets, and two instances with a router between them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .requests import Instance
from .testbed import Testbed


@pytest.fixture
def instance() -> Iterator[Instance]:
    made = Instance()
    yield made
    made.core.close()


@pytest.fixture
def testbed() -> Iterator[Testbed]:
    bed = Testbed()
    yield bed
    bed.close()


@pytest.fixture(scope="module")
def mesh() -> Iterator[Testbed]:
    """One pair that the tests of a module share: engines and charons run, a CHILD_SA stands."""
    bed = Testbed()
    try:
        bed.establish()
        yield bed
    finally:
        bed.close()
