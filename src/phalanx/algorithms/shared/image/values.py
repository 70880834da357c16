"""Hyperparameters are strings: how they are checked, and what is said of one that is wrong."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

from contract import UserError

Parser = Callable[[str], Any]


class OutOfRange(ValueError):
    """The text is the range."""


def parse(given: Mapping[str, str], parsers: Mapping[str, Parser], ignored: Collection[str] = ()) -> dict[str, Any]:
    """The values of all hyperparameters that were given; those of the platform itself are left out.

    Raises UserError for the first that is unknown, malformed or out of range.
    """
    values: dict[str, Any] = {}
    for name, text in given.items():
        if name.startswith(("_", "sagemaker_")):
            continue
        if name in ignored:
            print(f"Hyperparameter {name} has no effect")
            continue
        if name not in parsers:
            raise UserError(f"Extraneous hyperparameter found: {name}")
        try:
            values[name] = parsers[name](text.strip())
        except OutOfRange as error:
            raise UserError(f"Hyperparameter {name}: {text} is not in {error}") from error
        except ValueError as error:
            raise UserError(f"Hyperparameter {name}: could not parse value: {text}") from error
    return values


def integer(low: int, high: float = math.inf) -> Parser:
    """A whole number from `low` to `high`."""

    def read(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise OutOfRange(f"[{low}, {high}]")
        return value

    return read


def real(low: float = -math.inf, high: float = math.inf, *, over: bool = False, under: bool = False) -> Parser:
    """A number from `low` to `high`; without `low` itself if `over`, without `high` itself if `under`."""

    def read(text: str) -> float:
        value = float(text)
        if not math.isfinite(value):
            raise ValueError(text)
        if not low <= value <= high or (over and value == low) or (under and value == high):
            raise OutOfRange(f"{'(' if over else '['}{low}, {high}{')' if under else ']'}")
        return value

    return read


def choice(*choices: str) -> Parser:
    """One of some words."""

    def read(text: str) -> str:
        if text not in choices:
            raise OutOfRange("[" + ", ".join(choices) + "]")
        return text

    return read


def boolean(text: str) -> bool:
    """`true` or `false`; the SDKs also send Python's words."""
    if text.lower() not in ("true", "false"):
        raise OutOfRange("[true, false]")
    return text.lower() == "true"


def or_words(parser: Parser, *words: str) -> Parser:
    """What `parser` takes, or one of some words as it is."""
    return lambda text: text if text in words else parser(text)


def listed(parser: Parser) -> Parser:
    """A JSON array of values, each as `parser` takes it."""

    def read(text: str) -> list[Any]:
        items = json.loads(text)
        if not isinstance(items, list):
            raise ValueError(text)
        return [parser(str(item)) for item in items]

    return read
