"""The error of the engine."""

from __future__ import annotations


class EngineError(Exception):
    """The engine cannot start or does not answer. Traffic to peers stands still then; the text says why and what to do."""
