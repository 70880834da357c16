"""How Phalanx's own processes log: one line an event on standard error."""

from __future__ import annotations

import sys

import structlog


def configure() -> None:
    """Set structlog up. Tracebacks are plain: ones with local variables would carry keys into a file."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback, pad_event_to=24
            ),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
