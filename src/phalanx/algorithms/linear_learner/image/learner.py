"""Many linear models, trained side by side on the same mini-batches, which all hosts share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from hyperparameters import Candidate, Hyperparameters
from losses import Loss
from mesh import Mesh
from records import Records
from torch import Tensor

_SCORES = 1_000_000
"""So many are in memory at once, and what the loss and its gradient make of them."""
_EPSILON = 1e-8


class Learner:
    """`weights` is (columns + 1, models, classes); its last row is the bias.

    A mini-batch is the job's, whatever the number of hosts: each gives its share of rows, and the gradient is that of all of
    them. So N hosts take the same steps as one does with all data.
    """

    def __init__(
        self, columns: int, candidates: Sequence[Candidate], parameters: Hyperparameters, balance: float, mesh: Mesh
    ) -> None:
        self._parameters = parameters
        self._mesh = mesh
        count, classes = len(candidates), parameters.classes
        # From the same seed on every host.
        source = torch.Generator().manual_seed(1)
        if parameters.init_method == "normal":
            start = torch.randn((columns, count, classes), generator=source) * parameters.init_sigma
        else:
            start = (torch.rand((columns, count, classes), generator=source) * 2 - 1) * parameters.init_scale
        bias = torch.full((1, count, classes), parameters.init_bias if parameters.use_bias else 0.0)
        self.weights = torch.cat([start, bias])
        self.positive = torch.tensor([c.positive_weight if c.positive_weight is not None else balance for c in candidates])
        self._rates = torch.tensor([c.learning_rate for c in candidates])
        self._decay = torch.tensor([c.wd for c in candidates]).expand(columns + 1, -1).clone()
        self._decay[-1] *= parameters.bias_wd_mult
        self._l1 = torch.tensor([c.l1 for c in candidates]).expand(columns + 1, -1).clone()
        self._l1[-1] = 0
        self._speed = torch.ones(columns + 1)
        self._speed[-1] = parameters.bias_lr_mult if parameters.use_bias else 0.0
        self._first = torch.zeros_like(self.weights)
        self._second = torch.zeros_like(self.weights)
        self._steps = 0

    def epoch(self, records: Records, total: int, loss: Loss, class_weights: Tensor | None, number: int) -> Tensor:
        """One pass over all hosts' rows, `total` in number: the mean loss of each model, as it was on the way."""
        order = np.random.default_rng([number, self._mesh.rank]).permutation(records.rows)
        batches = np.array_split(order, -(-total // self._parameters.mini_batch_size))
        sums = torch.zeros(self.weights.shape[1], dtype=torch.float64)
        for batch in batches:
            gradient, losses, rows = self._gradient(records, batch, loss, class_weights)
            message = self._mesh.sum(torch.cat([gradient.flatten(), losses, torch.tensor([float(rows)])]))
            sums += message[-1 - len(sums) : -1]
            self._step(message[: self.weights.numel()].view_as(self.weights) / message[-1].clamp(min=1))
        return sums / total

    def scores(self, records: Records, weights: Tensor) -> Tensor:
        """Raw scores, (rows, models, classes)."""
        count, classes = weights.shape[1:]
        return (_product(records.features, weights[:-1].flatten(1)) + weights[-1].flatten()).view(-1, count, classes)

    def parts(self, records: Records, weights: Tensor) -> Iterator[Records]:
        """The rows in parts whose scores fit into memory."""
        return records.parts(max(1, _SCORES // weights[0].numel()))

    def mean_loss(self, records: Records, weights: Tensor, loss: Loss) -> Tensor:
        """The mean loss of each model on the rows of all hosts."""
        sums = torch.zeros(weights.shape[1] + 1, dtype=torch.float64)
        for part in self.parts(records, weights):
            sums[:-1] += loss(self.scores(part, weights), torch.from_numpy(part.labels)).double().sum(0)
            sums[-1] += part.rows
        self._mesh.sum(sums)
        return sums[:-1] / sums[-1].clamp(min=1)

    def state(self) -> dict[str, Any]:
        """What training goes on from."""
        return {"weights": self.weights, "first": self._first, "second": self._second, "steps": self._steps}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state of the same shape. Raises KeyError or ValueError where it is another."""
        if state["weights"].shape != self.weights.shape:
            raise ValueError("it is of other models")
        self.weights, self._first, self._second, self._steps = (state[name] for name in ("weights", "first", "second", "steps"))

    def _gradient(self, records: Records, batch: Any, loss: Loss, class_weights: Tensor | None) -> tuple[Tensor, Tensor, int]:
        """Sums over this host's rows of a mini-batch."""
        rows = Records(records.features[batch], records.labels[batch])
        gradient, total = torch.zeros_like(self.weights), torch.zeros(self.weights.shape[1])
        for part in self.parts(rows, self.weights):
            labels = torch.from_numpy(part.labels)
            scores = self.scores(part, self.weights).requires_grad_()
            losses = loss(scores, labels)
            weighted = losses
            if self._parameters.binary:
                weighted = losses * (1 + labels[:, None] * (self.positive - 1))
            elif class_weights is not None:
                weighted = losses * class_weights[labels.long()][:, None]
            (back,) = torch.autograd.grad(weighted.sum(), scores)
            gradient[:-1] += _product(part.features.T, back.flatten(1)).view_as(gradient[:-1])
            gradient[-1] += back.sum(0)
            total += losses.detach().sum(0)
        return gradient, total, rows.rows

    def _step(self, gradient: Tensor) -> None:
        """One step of the optimiser, each model at its own rate."""
        given = self._parameters
        self._steps += 1
        gradient = gradient + self._decay[:, :, None] * self.weights + self._l1[:, :, None] * self.weights.sign()
        if given.optimizer == "sgd":
            self._first.mul_(given.momentum).add_(gradient)
            step = self._first
        elif given.optimizer == "rmsprop":
            self._second.mul_(0.9).addcmul_(gradient, gradient, value=0.1)
            step = gradient / (self._second.sqrt() + _EPSILON)
        else:
            self._first.lerp_(gradient, 1 - given.beta_1)
            self._second.mul_(given.beta_2).addcmul_(gradient, gradient, value=1 - given.beta_2)
            first = self._first / (1 - given.beta_1**self._steps)
            second = self._second / (1 - given.beta_2**self._steps)
            step = first / (second.sqrt() + _EPSILON)
        rates = self._rates
        if given.use_lr_scheduler:
            lowered = rates * given.lr_scheduler_factor ** (self._steps // given.lr_scheduler_step)
            rates = torch.maximum(lowered, torch.minimum(rates, torch.tensor(given.lr_scheduler_minimum_lr)))
        self.weights = self.weights - step * self._speed[:, None, None] * rates[:, None]


def _product(features: Any, weights: Tensor) -> Tensor:
    """Matrix product of features, dense or sparse, with dense weights."""
    if isinstance(features, np.ndarray):
        return torch.from_numpy(features) @ weights
    return torch.from_numpy(np.ascontiguousarray(features @ weights.numpy()))
