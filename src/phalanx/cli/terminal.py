"""Where commands print what is for people."""

from __future__ import annotations

import sys

from rich.console import Console

PIPE_COLUMNS = 140
"""How wide a table is that goes into a pipe or a file, which have no width of their own."""


def console() -> Console:
    """Standard output, as wide as the terminal that it is."""
    return Console() if sys.stdout.isatty() else Console(width=PIPE_COLUMNS)
