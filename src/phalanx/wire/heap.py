"""The heap of a process that serves requests."""

from __future__ import annotations

import gc

ALLOCATIONS = 20_000
"""More objects than so many are made than are gone before the collector looks for cycles among them; Python's own 700 are
a few requests."""


def settle() -> None:
    """To be called when all is made that lives as long as the process: the collector looks at none of it again. The models of
    the services alone are several hundred thousand objects."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(ALLOCATIONS, 20, 20)
