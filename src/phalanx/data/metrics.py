"""Metric definitions (AlgorithmSpecification.MetricDefinitions) applied to log lines.

The patterns are the users'. They run in RE2, whose time is linear in the text: none can hang the service, as one with
nested repetition can hang Python's `re`. The price is what RE2 cannot do: look-around and back-references are refused.
Lines, which are a container's, and patterns together can still be made to take long: what is looked for in them is bounded.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from itertools import islice

import re2  # type: ignore[import-untyped,unused-ignore]
import structlog

LINE_CHARACTERS = 8192
"""So much of a line is looked at, from its beginning."""
LINE_VALUES = 100
"""So many values of a metric are taken from a line, the first."""
SCAN_SECONDS = 3.0
"""CPU time for a portion of a log. What is not made to take long needs a third of it at most, in the longest portion."""

log = structlog.get_logger()


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
        `#011`, and patterns written from what it shows say so: they match a tab here. What is not found within SCAN_SECONDS is
        not found.
        """
        found = []
        until = time.thread_time() + SCAN_SECONDS
        for name, text, timestamp in self._matches(lines):
            value = _number(text)
            if value is not None:
                found.append((name, value, timestamp))
            if time.thread_time() > until:
                log.warning("metrics are not looked for in the rest of a portion of the log: it takes too long", metric=name)
                break
        return found

    def _matches(self, lines: Iterable[tuple[int, str]]) -> Iterator[tuple[str, str | None, int]]:
        """Name, text and timestamp of each match; without a text where nothing was found, which takes its time as well."""
        for timestamp, line in lines:
            text = line[:LINE_CHARACTERS]
            shown = text.replace("\t", "#011")[:LINE_CHARACTERS]
            matching = self._matching(text)
            if shown != text:
                matching |= self._matching(shown)
            for number in sorted(matching):
                name, pattern = self._patterns[number]
                for each in (text, shown) if shown != text else (text,):
                    match = None
                    for match in islice(pattern.finditer(each), LINE_VALUES):
                        yield name, match.group(1), timestamp
                    if match is not None:
                        break
                    yield name, None, timestamp

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
