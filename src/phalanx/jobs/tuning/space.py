"""The hyperparameters that a tuning job searches over: their ranges, and how SageMaker writes their values."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product

from phalanx.store.base import Json

LARGEST_INTEGER = 2**53
"""Largest magnitude of an integer's bounds: beyond it strategies, which calculate in doubles, cannot tell integers apart."""
AUTO_LOGARITHMIC = 100.0
"""Scaling type Auto searches a range on a logarithmic scale from this ratio of its bounds on."""

_INTEGER = re.compile(r"[-+]?[0-9]+")


class SpaceError(ValueError):
    """A range that cannot be searched; the text is for the user."""


@dataclass(frozen=True, slots=True)
class Integer:
    """An integer range, both bounds included."""

    name: str
    low: int
    high: int
    logarithmic: bool

    @property
    def size(self) -> float:
        """How many values there are."""
        return self.high - self.low + 1

    @property
    def ends(self) -> tuple[str, ...]:
        """The least and the greatest value."""
        return str(self.low), str(self.high)

    def values(self) -> Iterator[str]:
        """All values, in order."""
        return (str(value) for value in range(self.low, self.high + 1))

    def encode(self, text: str) -> int | None:
        """A hyperparameter's text as Optuna's value; None outside of the range."""
        value = int(text) if _INTEGER.fullmatch(text) else None
        return value if value is not None and self.low <= value <= self.high else None

    def decode(self, value: float | str) -> str:
        """Optuna's value as a hyperparameter's text."""
        return str(int(value))


@dataclass(frozen=True, slots=True)
class Continuous:
    """A continuous range. `reverse` searches 1 - x on a logarithmic scale: fine steps close to 1."""

    name: str
    low: float
    high: float
    logarithmic: bool
    reverse: bool

    @property
    def size(self) -> float:
        """How many values there are."""
        return math.inf

    @property
    def ends(self) -> tuple[str, ...]:
        """The least and the greatest value."""
        return repr(self.low), repr(self.high)

    def values(self) -> Iterator[str]:
        """They cannot be counted."""
        raise ValueError(f"{self.name} is continuous")

    def encode(self, text: str) -> float | None:
        """A hyperparameter's text as Optuna's value; None outside of the range."""
        try:
            value = float(text)
        except ValueError:
            return None
        if not self.low <= value <= self.high:
            return None
        return min(max(1 - value, 1 - self.high), 1 - self.low) if self.reverse else value

    def decode(self, value: float | str) -> str:
        """Optuna's value as a hyperparameter's text."""
        value = 1 - float(value) if self.reverse else float(value)
        return repr(min(max(value, self.low), self.high))


@dataclass(frozen=True, slots=True)
class Categorical:
    """A choice between texts."""

    name: str
    choices: tuple[str, ...]

    @property
    def size(self) -> float:
        """How many values there are."""
        return len(self.choices)

    @property
    def ends(self) -> tuple[str, ...]:
        """All values: they have no order."""
        return self.choices

    def values(self) -> Iterator[str]:
        """All values, in order."""
        return iter(self.choices)

    def encode(self, text: str) -> str | None:
        """A hyperparameter's text as Optuna's value; None for one that is no choice."""
        return text if text in self.choices else None

    def decode(self, value: float | str) -> str:
        """Optuna's value as a hyperparameter's text."""
        return str(value)


Parameter = Integer | Continuous | Categorical
Ranges = Mapping[str, tuple[str, str, str, str]]
"""Ranges of hyperparameters whose meaning is known, by name: kind (Integer, Continuous), bounds, scaling type."""


@dataclass(frozen=True, slots=True)
class Space:
    """The hyperparameters of one training job definition that are searched over, by name."""

    parameters: tuple[Parameter, ...]

    @classmethod
    def of(cls, ranges: Json, known: Ranges) -> Space:
        """The space of the model's ParameterRanges; `known` are the ranges that AutoParameters of these names get.

        Raises SpaceError for what cannot be searched.
        """
        found: list[Parameter] = [
            *(_integer(each) for each in ranges.get("IntegerParameterRanges", [])),
            *(_continuous(each) for each in ranges.get("ContinuousParameterRanges", [])),
            *(_categorical(each) for each in ranges.get("CategoricalParameterRanges", [])),
            *(_automatic(each["Name"], each["ValueHint"], known) for each in ranges.get("AutoParameters", [])),
        ]
        names = [each.name for each in found]
        for name in names:
            if names.count(name) > 1:
                raise SpaceError(f"The hyperparameter {name} has more than one range. Give each hyperparameter one range.")
        return cls(tuple(found))

    @property
    def size(self) -> float:
        """How many combinations there are; infinite with a continuous range."""
        return math.prod((each.size for each in self.parameters), start=1.0)

    def encode(self, values: Mapping[str, str]) -> dict[str, int | float | str] | None:
        """A combination as Optuna's values; None where one is missing or not in its range."""
        found = {each.name: each.encode(values.get(each.name, "")) for each in self.parameters}
        return {name: value for name, value in found.items() if value is not None} if None not in found.values() else None

    def decode(self, values: Mapping[str, float | str]) -> dict[str, str]:
        """Optuna's values as a combination of hyperparameters' texts."""
        return {each.name: each.decode(values[each.name]) for each in self.parameters}

    def combinations(self) -> Iterator[dict[str, str]]:
        """All combinations, in order, the last parameter changing fastest. Raises ValueError with a continuous range."""
        names = [each.name for each in self.parameters]
        return (dict(zip(names, values, strict=True)) for values in product(*(each.values() for each in self.parameters)))


def _integer(given: Json) -> Integer:
    name = given["Name"]
    for bound in ("MinValue", "MaxValue"):
        if _INTEGER.fullmatch(given[bound]) is None or abs(int(given[bound])) > LARGEST_INTEGER:
            raise SpaceError(f"The {bound} {given[bound]!r} of the integer hyperparameter {name} is not a valid integer.")
    low, high = int(given["MinValue"]), int(given["MaxValue"])
    _ordered(name, given, low < high)
    scaling = given.get("ScalingType", "Auto")
    if scaling == "ReverseLogarithmic":
        raise SpaceError(
            f"The scaling type ReverseLogarithmic of {name} is supported for continuous hyperparameter ranges only. "
            "Choose Auto, Linear or Logarithmic."
        )
    return Integer(name, low, high, _logarithmic(name, scaling, low, high))


def _continuous(given: Json) -> Continuous:
    name = given["Name"]
    try:
        low, high = float(given["MinValue"]), float(given["MaxValue"])
    except ValueError as error:
        raise SpaceError(f"The bounds of the continuous hyperparameter {name} are not valid numbers.") from error
    if not math.isfinite(low) or not math.isfinite(high) or not math.isfinite(high - low):
        raise SpaceError(f"The bounds of the continuous hyperparameter {name} are not finite numbers.")
    _ordered(name, given, low < high)
    scaling = given.get("ScalingType", "Auto")
    reverse = scaling == "ReverseLogarithmic"
    if reverse and not (low >= 0 and high < 1 and 1 - high < 1 - low):
        raise SpaceError(
            f"The scaling type ReverseLogarithmic of {name} needs a range that is entirely within 0 <= x < 1.0. "
            "Change the range or choose another scaling type."
        )
    return Continuous(name, low, high, not reverse and _logarithmic(name, scaling, low, high), reverse)


def _categorical(given: Json) -> Categorical:
    values = given["Values"]
    if len(set(values)) < len(values):
        raise SpaceError(f"The categorical hyperparameter {given['Name']} has a value more than once. Give each value once.")
    return Categorical(given["Name"], tuple(values))


def _automatic(name: str, hint: str, known: Ranges) -> Parameter:
    """The range that Autotune chooses: what is known of the algorithm, else a decade around the example value."""
    if name in known:
        kind, low, high, scaling = known[name]
        given = {"Name": name, "MinValue": low, "MaxValue": high, "ScalingType": scaling}
        return _integer(given) if kind == "Integer" else _continuous(given)
    if hint.lower() in ("true", "false"):
        choices = (hint, "false" if hint.lower() == "true" else "true")
        return Categorical(name, choices)
    if _INTEGER.fullmatch(hint) and 0 < int(hint) < LARGEST_INTEGER // 4:
        value = int(hint)
        return _integer({"Name": name, "MinValue": str(max(1, value // 4)), "MaxValue": str(value * 4)})
    try:
        number = float(hint)
    except ValueError as error:
        raise SpaceError(
            f"Autotune cannot choose a range for the hyperparameter {name} from the example value {hint!r}. "
            "Give a number, or make it a static hyperparameter."
        ) from error
    low_value, high_value = sorted((number / 10, number * 10)) if number else (0.0, 1.0)
    # An example between 0 and 1 is taken for a fraction or a rate: it does not go beyond 1.
    high_value = min(high_value, 1.0) if 0 < number < 1 else high_value
    return _continuous({"Name": name, "MinValue": repr(low_value), "MaxValue": repr(high_value)})


def _ordered(name: str, given: Json, holds: bool) -> None:
    if not holds:
        raise SpaceError(
            f"The MinValue {given['MinValue']} of the hyperparameter {name} must be less than its MaxValue {given['MaxValue']}."
        )


def _logarithmic(name: str, scaling: str, low: float, high: float) -> bool:
    if scaling == "Logarithmic" and low <= 0:
        raise SpaceError(
            f"The scaling type Logarithmic of {name} needs a range that has only values greater than 0. "
            "Change the range or choose another scaling type."
        )
    return scaling == "Logarithmic" or (scaling == "Auto" and low > 0 and high / low >= AUTO_LOGARITHMIC)
