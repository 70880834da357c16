"""GluonTS's DeepAR, trained by Lightning on all hosts' series."""

from __future__ import annotations

import copy
import logging
import os
import time
import warnings
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from contract import UserError
from gluonts.core.component import validated
from gluonts.torch import DeepAREstimator
from gluonts.torch.model.deepar.lightning_module import DeepARLightningModule
from hyperparameters import Hyperparameters
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy
from likelihoods import output, scaled
from mesh import Mesh
from series import Series
from torch.distributions import Distribution

_BATCHES = 10
"""An epoch has as many batches, if the series do not fill more."""
_SHARED = 1_280_000
"""Rows of a mini-batch times cells squared from which two threads take a network's step sooner than one does. Below, they wait
for each other thousands of times a step, and one alone takes half the time."""


class Module(DeepARLightningModule):
    """GluonTS's module, with the loss of all hosts: by one host's alone, each would choose a learning rate of its own."""

    def log(self, name: str, value: Any, **options: Any) -> None:
        """Log a value, as the mean over the hosts."""
        super().log(name, value, **{**options, "prog_bar": False, "sync_dist": True})


class _Estimator(DeepAREstimator):
    @validated()  # type: ignore[untyped-decorator]
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)

    def create_lightning_module(self) -> Any:
        plain = super().create_lightning_module()
        return Module(model_kwargs=plain.__init_args__["model_kwargs"], lr=plain.lr, weight_decay=plain.weight_decay)


class Environment(LightningEnvironment):
    """The hosts, for Lightning: one process each, already started and joined."""

    def __init__(self, mesh: Mesh) -> None:
        super().__init__()
        self._mesh = mesh

    @property
    def creates_processes_externally(self) -> bool:
        """They are there."""
        return True

    def world_size(self) -> int:
        """Number of processes."""
        return self._mesh.size

    def global_rank(self) -> int:
        """This process's place among all."""
        return self._mesh.rank

    def node_rank(self) -> int:
        """This host's place among all."""
        return self._mesh.rank

    def local_rank(self) -> int:
        """This process's place on its host."""
        return 0


class Progress(pl.Callback):
    """Reports each epoch, keeps the weights of the best one, and ends training where nothing more is gained."""

    def __init__(self, parameters: Hyperparameters, batches: int, say: Callable[[str], None], host: str) -> None:
        super().__init__()
        self._parameters, self._batches, self._say, self._host = parameters, batches, say, host
        self.best: tuple[float, int, dict[str, Any]] | None = None
        self._started = 0.0

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Remember when."""
        self._started = time.monotonic()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Look at the epoch's loss, which is the same on all hosts."""
        epoch, given = trainer.current_epoch, self._parameters
        loss = float(trainer.callback_metrics["train_loss"])
        if not np.isfinite(loss):
            raise UserError(
                f"The training loss is not a finite number in epoch {epoch}: reduce learning_rate, or look for outliers"
            )
        seconds = max(time.monotonic() - self._started, 1e-9)
        rows = self._batches * given.mini_batch_size
        self._say(f"#throughput_metric: host={self._host}, train throughput={rows / seconds} records/second")
        self._say(f"#progress_metric: host={self._host}, completed {100 * (epoch + 1) / given.epochs} % of epochs")
        self._say(f"#quality_metric: host={self._host}, epoch={epoch}, train loss <loss>={loss}")
        if self.best is None or loss < self.best[0]:
            self._say("best epoch loss so far")
            self.best = loss, epoch, copy.deepcopy(pl_module.state_dict())
        else:
            self._say("loss did not improve")
            if given.early_stopping_patience and epoch - self.best[1] >= given.early_stopping_patience:
                self._say("stopping training now")
                trainer.should_stop = True


def train(
    series: list[Series],
    count: int,
    cardinality: list[int],
    dynamic: int,
    parameters: Hyperparameters,
    mesh: Mesh,
    say: Callable[[str], None],
    host: str,
) -> Any:
    """GluonTS's predictor with the best epoch's weights. `count` is the number of all hosts' series.

    A mini-batch is the job's, whatever the number of hosts: each gives its share.
    """
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    # Weights that are no numbers show in the epoch's loss, on all hosts at once, instead of as an exception on one.
    Distribution.set_default_validate_args(False)
    pl.seed_everything(1 + mesh.rank, verbose=False)
    share = -(-parameters.mini_batch_size // mesh.size)
    batches = max(_BATCHES, -(-count // parameters.mini_batch_size))
    options = {**_network(parameters, cardinality, dynamic), "batch_size": share, "num_batches_per_epoch": batches}
    estimator = _Estimator(**options)
    transformation = estimator.create_transformation()
    module = estimator.create_lightning_module()
    data = list(transformation.apply([each.entry() for each in series], is_train=True))
    progress = Progress(parameters, batches, say, host)
    trainer = _trainer(parameters.epochs, mesh, progress)
    threads = torch.get_num_threads()
    if "OMP_NUM_THREADS" not in os.environ and share * parameters.num_cells**2 < _SHARED:
        torch.set_num_threads(1)
    trainer.fit(module, estimator.create_training_data_loader(data, module))
    torch.set_num_threads(threads)
    if progress.best is None:
        raise UserError("No epoch was completed")
    loss, epoch, weights = progress.best
    say(f"Final loss: {loss} (occurred at epoch {epoch})")
    say(f"#quality_metric: host={host}, train final_loss <loss>={loss}")
    # GluonTS's own module: so that GluonTS alone loads what is kept.
    plain = DeepAREstimator(**options)
    best = plain.create_lightning_module()
    best.load_state_dict(weights)
    torch.manual_seed(1 + mesh.rank)
    return plain.create_predictor(plain.create_transformation(), best)


def _network(parameters: Hyperparameters, cardinality: list[int], dynamic: int) -> dict[str, Any]:
    """What the model is, as GluonTS's estimator is told."""
    return {
        "freq": parameters.time_freq,
        "prediction_length": parameters.prediction_length,
        "context_length": parameters.context_length,
        "num_layers": parameters.num_layers,
        "hidden_size": parameters.num_cells,
        "lr": parameters.learning_rate,
        "dropout_rate": parameters.dropout_rate,
        "num_feat_dynamic_real": dynamic,
        "num_feat_static_cat": len(cardinality),
        "cardinality": cardinality or None,
        "embedding_dimension": [parameters.embedding_dimension] * len(cardinality) or None,
        "distr_output": output(parameters.likelihood),
        "scaling": scaled(parameters.likelihood),
    }


def _trainer(epochs: int, mesh: Mesh, progress: Progress) -> pl.Trainer:
    """Lightning on all hosts; what it would say and keep by itself `progress` says and keeps."""
    alone = mesh.size == 1
    return pl.Trainer(
        max_epochs=epochs,
        gradient_clip_val=10.0,
        accelerator="cpu",
        devices=1,
        num_nodes=mesh.size,
        strategy="auto" if alone else DDPStrategy(cluster_environment=Environment(mesh), process_group_backend="gloo"),
        callbacks=[progress],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
