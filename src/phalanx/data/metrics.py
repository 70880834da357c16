"""Metric definitions (AlgorithmSpecification.MetricDefinitions) applied to log lines.

The patterns are the users'. They run in RE2, whose time is linear in the text: none can hang the service, as one with
nested repetition can hang Python's `re`. The price is what RE2 cannot do: look-around and back-references are refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import re2  # type: ignore[import-untyped,unused-ignore]


class MetricError(Exception):
    """A metric definition cannot be used; the text says which and why."""


class Definitions:
    """Metric definitions, ready to scan. Raises MetricError for a pattern that RE2 refuses or that has no group."""

    def __init__(self, definitions: Iterable[tuple[str, str]]) -> None:
        options = re2.Options()
        options.log_errors = False
        self._patterns = []
        # Which patterns match a line is found in one pass over it: built-in algorithms have dozens, and logs have many lines.
        # The first one matches everything: a set that does not find it has run out of memory, and says nothing of the others.
        self._set = re2.Set.SearchSet(options)
        self._set.Add("")
        for name, regex in definitions:
            try:
                pattern = re2.compile(regex, options)
            except re2.error as error:
                raise MetricError(
                    f"Invalid regex for metric {name}: {_text(error)}. Look-around and back-references are not supported"
                ) from error
            if pattern.groups < 1:
                raise MetricError(f"Invalid regex for metric {name}: it has no capturing group for the value")
            self._patterns.append((name, pattern))
            self._set.Add(regex)
        try:
            self._set.Compile()
        except re2.error as error:
            raise MetricError("The regular expressions of all metrics together are too large. Simplify them") from error

    def scan(self, lines: Iterable[tuple[int, str]]) -> list[tuple[str, float, int]]:
        """Name, value and timestamp of each metric found in `lines` (timestamp, text), in the order they appear.

        The value is the pattern's first group; what is not a finite number is passed over. CloudWatch shows a tab as
        `#011`, and patterns written from what it shows say so: they match a tab here.
        """
        found = []
        for timestamp, text in lines:
            shown = text.replace("\t", "#011")
            matching = self._matching(text)
            if shown != text:
                matching |= self._matching(shown)
            for number in sorted(matching):
                name, pattern = self._patterns[number]
                for match in list(pattern.finditer(text)) or (pattern.finditer(shown) if shown != text else ()):
                    value = _number(match.group(1))
                    if value is not None:
                        found.append((name, value, timestamp))
        return found

    def _matching(self, text: str) -> set[int]:
        """Indices of the patterns that may match."""
        indices = self._set.Match(text)
        return {index - 1 for index in indices if index} if indices else set(range(len(self._patterns)))


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _text(error: Exception) -> str:
    reason = error.args[0] if error.args else error
    return reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
