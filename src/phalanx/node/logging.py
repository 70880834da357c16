"""How Phalanx's own processes log: one event a line on standard error, as JSON unless a person is looking.

Every line about a job has its `job`; every line about an instance its `instance` (algo-N) and `instance_id` as well.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from types import TracebackType

import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.typing import Processor

FORMAT = "PHALANX_LOG_FORMAT"
"""The environment's variable that says `json` or `text`; without it, text on a terminal and JSON elsewhere."""


def configure() -> None:
    """Set structlog up, and what libraries and Python itself have to say along with it.

    Tracebacks are plain: ones with local variables would carry keys into a file.
    """
    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if os.environ.get(FORMAT, "text" if sys.stderr.isatty() else "json") == "text":
        rendering: list[Processor] = [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback, pad_event_to=24
            )
        ]
    else:
        rendering = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(processors=[*common, *rendering], logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        ProcessorFormatter(foreign_pre_chain=common, processors=[ProcessorFormatter.remove_processors_meta, *rendering])
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    threading.excepthook = _thread_failed
    sys.excepthook = _failed


def _thread_failed(failed: threading.ExceptHookArgs) -> None:
    name = failed.thread.name if failed.thread is not None else ""
    error = failed.exc_value
    structlog.get_logger().error("a thread failed", thread=name, exc_info=error if error is not None else True)


def _failed(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    structlog.get_logger().critical("the process failed", exc_info=(kind, error, traceback))
