"""deterministic-L1: a point forecast that is trained on the absolute error. Models that use it have this file beside them."""

from __future__ import annotations

from typing import Any

import torch
from gluonts.torch.distributions import LaplaceOutput
from gluonts.torch.distributions.affine_transformed import AffineTransformed
from torch import Tensor
from torch.distributions import Laplace


class Point(Laplace):
    """Laplace's distribution of scale 1, whose samples are its centre."""

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """The centre."""
        return self.loc.expand(self._extended_shape(torch.Size(sample_shape)))


class PointOutput(LaplaceOutput):
    """A point forecast as a distribution of GluonTS."""

    args_dim = {"loc": 1}  # noqa: RUF012 (as GluonTS declares it)

    @classmethod
    def domain_map(cls, loc: Tensor) -> Any:
        """The parameter as it comes from the network."""
        return (loc.squeeze(-1),)

    def distribution(self, distr_args: Any, loc: Any = None, scale: Any = None) -> Any:
        """The distribution, of targets as they were given."""
        (centre,) = distr_args
        return AffineTransformed(Point(centre, torch.ones_like(centre)), loc=loc, scale=scale)
