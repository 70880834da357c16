"""The hyperparameters that an algorithm supports (SupportedHyperParameters): checked when it is made and when it is used."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from phalanx.jobs.tuning.settings import OBJECTIVE
from phalanx.services.sagemaker.errors import validation
from phalanx.store.base import Json

_RANGES = {
    "Integer": "IntegerParameterRangeSpecification",
    "Continuous": "ContinuousParameterRangeSpecification",
    "Categorical": "CategoricalParameterRangeSpecification",
}


def check_specification(specifications: Sequence[Json]) -> None:
    """Raise ValidationException for names given twice, a range that is not of its type, or a default outside of its range."""
    names = [specification["Name"] for specification in specifications]
    if len(set(names)) < len(names):
        raise validation("SupportedHyperParameters must have unique names.")
    for specification in specifications:
        name, kind, range_ = specification["Name"], specification["Type"], specification.get("Range", {})
        if any(given != _RANGES.get(kind) for given in range_):
            raise validation(f"The Range of hyperparameter {name} does not go with its Type {kind}.")
        if kind in ("Integer", "Continuous"):
            for bounds in range_.values():
                low, high = _number(kind, bounds["MinValue"]), _number(kind, bounds["MaxValue"])
                if low is None or high is None or low > high:
                    raise validation(
                        f"The Range of hyperparameter {name} must be two {kind} numbers, MinValue the smaller one."
                    )
        if specification.get("IsTunable") and not range_:
            raise validation(f"The hyperparameter {name} is tunable, and needs a Range.")
        if "DefaultValue" in specification and (fault := _fault(specification, specification["DefaultValue"])):
            raise validation(f"The DefaultValue of hyperparameter {name} {fault}.")


def completed(algorithm: str, specifications: Sequence[Json], given: Mapping[str, str]) -> dict[str, str]:
    """Hyperparameters of a request with the defaults of those it leaves out; an algorithm that lists none takes any.

    Raises ValidationException for one that is unknown, missing, or not a value that the algorithm supports.
    """
    if not specifications:
        return dict(given)
    known = {specification["Name"]: specification for specification in specifications}
    for name, value in given.items():
        if name == OBJECTIVE:
            # A tuning job's own word to the training program, whatever the algorithm.
            continue
        if name not in known:
            raise validation(f"The hyperparameter {name} is not supported by algorithm {algorithm}.")
        if fault := _fault(known[name], value):
            raise validation(f"The value '{value}' of hyperparameter {name} {fault} (algorithm {algorithm}).")
    defaults = {name: each["DefaultValue"] for name, each in known.items() if "DefaultValue" in each}
    for name, specification in known.items():
        if specification.get("IsRequired") and name not in given and name not in defaults:
            raise validation(f"The hyperparameter {name} is required by algorithm {algorithm}.")
    return {**defaults, **given}


def check_tunable(algorithm: str, specifications: Sequence[Json], bounds: Mapping[str, Sequence[str]]) -> None:
    """Raise ValidationException unless an algorithm lets these hyperparameters be tuned, within these ends of their ranges; one
    that lists none takes any."""
    known = {specification["Name"]: specification for specification in specifications}
    for name, values in bounds.items() if known else ():
        if not known.get(name, {}).get("IsTunable", False):
            tunable = ", ".join(each["Name"] for each in specifications if each.get("IsTunable")) or "none"
            raise validation(f"The hyperparameter {name} is not tunable with algorithm {algorithm}. Tunable are: {tunable}.")
        for value in values:
            if fault := _fault(known[name], value):
                raise validation(f"The value '{value}' of hyperparameter {name} {fault} (algorithm {algorithm}).")


def _fault(specification: Json, value: str) -> str | None:
    """What is wrong with a value; None where nothing is."""
    kind = specification["Type"]
    range_: dict[str, Any] = specification.get("Range", {}).get(_RANGES.get(kind, ""), {})
    if kind in ("Integer", "Continuous"):
        number = _number(kind, value)
        if number is None:
            return f"is not of type {kind}"
        if range_ and not float(range_["MinValue"]) <= number <= float(range_["MaxValue"]):
            return f"is not between {range_['MinValue']} and {range_['MaxValue']}"
    elif kind == "Categorical" and range_ and value not in range_["Values"]:
        return f"is none of {', '.join(range_['Values'])}"
    return None


def _number(kind: str, text: str) -> float | None:
    try:
        number = float(int(text)) if kind == "Integer" else float(text)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
