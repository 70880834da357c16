"""Filter patterns of unstructured log events, without regular expressions."""

from __future__ import annotations

import re
from collections.abc import Callable

_TERM = re.compile(r'(?P<sign>[?-]?)(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<word>[^\s"{}\[\]%]+))')


def compile_pattern(pattern: str) -> Callable[[str], bool]:
    """A test for messages: every plain term is in it, none with `-` before it, and at least one of those with `?`.

    Matching is by case. Raises ValueError for JSON (`{…}`), space-delimited (`[…]`) and regular-expression (`%…%`) patterns.
    """
    required: list[str] = []
    excluded: list[str] = []
    optional: list[str] = []
    position = 0
    while position < len(pattern):
        if pattern[position].isspace():
            position += 1
            continue
        term = _TERM.match(pattern, position)
        if term is None:
            raise ValueError("only terms, quoted phrases, ?term and -term are supported")
        quoted = term["quoted"]
        text = term["word"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        {"": required, "-": excluded, "?": optional}[term["sign"]].append(text)
        position = term.end()
    # With required terms present, CloudWatch ignores the optional ones.
    wanted = [] if required else optional

    def matches(message: str) -> bool:
        return (
            all(text in message for text in required)
            and not any(text in message for text in excluded)
            and (not wanted or any(text in message for text in wanted))
        )

    return matches
