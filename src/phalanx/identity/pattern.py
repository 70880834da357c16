"""The patterns of policies: `*` and `?` in actions, ARNs and values, and `${…}` variables.

RE2 matches them in linear time, whoever wrote them ("IAM JSON policy elements" in the IAM user guide).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Literal

import re2  # type: ignore[import-untyped,unused-ignore]

Test = Callable[[str], bool]
Kind = Literal["text", "arn", "arn anywhere"]
"""What a pattern is of: any text, an ARN, or an ARN in whatever region."""

_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_DEFAULT = re.compile(r"\s*([^,\s]+)\s*(?:,\s*'([^']*)')?\s*")
_REGION = 3
"""Colons before the region of an ARN."""
_LITERALS = {"*": "*", "?": "?", "$": "$"}
_OPTIONS = re2.Options()
_OPTIONS.dot_nl = True
_OPTIONS.log_errors = False


def has_variables(text: str) -> bool:
    """Whether a text has `${…}`."""
    return "${" in text


def expand(text: str, lookup: Callable[[str], str | None]) -> list[tuple[str, bool]] | None:
    """`text` with its variables replaced, as parts each with whether its wildcards are meant as such.

    What a variable stands for is taken literally. None where one has no value and no default: then nothing matches.
    """
    parts: list[tuple[str, bool]] = []
    end = 0
    for found in _VARIABLE.finditer(text):
        parts.append((text[end : found.start()], True))
        end = found.end()
        if found[1] in _LITERALS:
            parts.append((_LITERALS[found[1]], False))
            continue
        named = _DEFAULT.fullmatch(found[1])
        value = lookup(named[1]) if named else None
        if value is None and named:
            value = named[2]
        if value is None:
            return None
        parts.append((value, False))
    parts.append((text[end:], True))
    return parts


def glob(pattern: str) -> Test:
    """A test for texts that match a pattern wholly."""
    return _glob(((pattern, True),), "text")


def arn(pattern: str, kind: Kind = "arn") -> Test:
    """A test for ARNs: each of the six parts is matched for itself, only the last may hold colons."""
    return _glob(((pattern, True),), kind)


def glob_of(parts: Iterable[tuple[str, bool]], kind: Kind = "text") -> Test:
    """A test for what `expand` has made of a pattern."""
    return _glob(tuple(parts), kind)


@lru_cache(maxsize=4096)
def _glob(parts: tuple[tuple[str, bool], ...], kind: Kind) -> Test:
    colons = 0
    out: list[str] = []
    anywhere = False
    for text, wild in parts:
        for character in text:
            inside = kind != "text" and colons < 5
            if kind == "arn anywhere" and colons == _REGION and character != ":":
                if not anywhere:
                    out.append("[^:]*")
                anywhere = True
            elif wild and character == "*":
                out.append("[^:]*" if inside else ".*")
            elif wild and character == "?":
                out.append("[^:]" if inside else ".")
            else:
                colons += character == ":"
                out.append(re2.escape(character))
    if not anywhere and not any(wild and ("*" in text or "?" in text) for text, wild in parts):
        whole = "".join(text for text, _ in parts)
        return lambda value: value == whole
    compiled = re2.compile("".join(out), _OPTIONS)
    return lambda value: compiled.fullmatch(value) is not None
