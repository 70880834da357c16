"""Likelihoods by SageMaker's names, as GluonTS's distributions."""

from __future__ import annotations

from typing import Any

import numpy as np
from contract import UserError
from gluonts.torch.distributions import BetaOutput, NegativeBinomialOutput, NormalOutput, StudentTOutput
from point import PointOutput
from series import Series

_OUTPUTS: dict[str, Any] = {
    "gaussian": NormalOutput,
    "beta": BetaOutput,
    "negative-binomial": NegativeBinomialOutput,
    "student-T": StudentTOutput,
    "deterministic-L1": PointOutput,
}
_EDGE = 1e-4
"""A beta distribution has no density at 0 and 1."""


def output(likelihood: str) -> Any:
    """GluonTS's distribution for a likelihood."""
    return _OUTPUTS[likelihood]()


def scaled(likelihood: str) -> bool:
    """Whether the model may scale its targets: not those that lie between 0 and 1."""
    return likelihood != "beta"


def fitting(channel: str, likelihood: str, series: list[Series]) -> list[Series]:
    """The series as the likelihood takes them. Raises UserError where it cannot."""
    for each in series:
        known = each.target[~np.isnan(each.target)]
        if likelihood == "negative-binomial" and ((known < 0) | (known != np.round(known))).any():
            raise UserError(f"Channel {channel}: likelihood negative-binomial takes counts, whole numbers from 0 on")
        if likelihood == "beta" and ((known < 0) | (known > 1)).any():
            raise UserError(f"Channel {channel}: likelihood beta takes targets from 0 to 1")
    if likelihood != "beta":
        return series
    return [Series(each.start, each.target.clip(_EDGE, 1 - _EDGE), each.cat, each.dynamic) for each in series]
