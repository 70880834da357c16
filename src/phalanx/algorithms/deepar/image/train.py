"""DeepAR on one or more hosts, as SageMaker's built-in algorithm: `train.py train`, with the container contract alone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import program
from cluster import Cluster
from contract import MODEL, Resources, UserError, needed
from evaluation import scores
from hyperparameters import Hyperparameters, read
from likelihoods import fitting
from mesh import Mesh
from series import Series, load
from training import train as fit

_OBSERVATIONS = 300
"""DeepAR refuses to learn from fewer."""

log = program.log("deepar")


def main() -> None:
    """Train; ends the process."""
    program.run(read, train)


def train(parameters: Hyperparameters, here: Resources, cluster: Cluster | None) -> None:
    """Train on this host's series, together with the other hosts; the first one writes the model."""
    data, replicated = {}, {}

    def step() -> None:
        for channel in needed(("train", "test"), log.info):
            found = data[channel.name] = fitting(channel.name, parameters.likelihood, load(channel, parameters))
            replicated[channel.name] = channel.replicated
            log.info("Channel %s: %d time series on this host", channel.name, len(found))
        _check(data, parameters, several=cluster is not None)

    _, everywhere = program.together(cluster, here.hosts, step, lambda _: _summary(data))
    cardinality, dynamic = _agree(everywhere, parameters)
    count = everywhere[0]["count"] if replicated["train"] else sum(told["count"] for told in everywhere)
    mesh = Mesh(here, cluster)

    def say(text: str) -> None:
        if mesh.leader:
            log.info("%s", text)

    say(f"Training on {count} time series; cardinality {cardinality}, {dynamic} dynamic features")
    predictor = fit(data["train"], count, cardinality, dynamic, parameters, mesh, say, here.host)
    if mesh.leader:
        _save(predictor, parameters)
    if "test" in data:
        test = data["test"]
        if replicated["test"]:
            test = test[mesh.rank :: mesh.size]
        say(f"Evaluating model accuracy on testset using {parameters.num_eval_samples} samples")
        found = scores(predictor, test, parameters, mesh)
        if not found:
            say(f"Channel test: the last {parameters.prediction_length} values of all series are missing: there are no scores")
            return
        for name, value in found.items():
            say(f"#test_score ({here.host}, {name}): {value}")
        for name in ("RMSE", "mean_wQuantileLoss"):
            say(f"#quality_metric: host={here.host}, test {name} <loss>={found[name]}")


def _check(data: dict[str, list[Series]], parameters: Hyperparameters, several: bool) -> None:
    """What one host can say of its own series. Raises UserError."""
    for name, series in data.items():
        if not series and name == "train":
            share = "; give at least as many objects as instances, or S3DataDistributionType FullyReplicated" if several else ""
            raise UserError(f"No data in channel {name}{share}")
        for each in series:
            if name == "test" and len(each.target) <= parameters.prediction_length:
                raise UserError(
                    f"Channel test: a series has {len(each.target)} points; more than prediction_length"
                    f" ({parameters.prediction_length}) are needed"
                )
            if isinstance(parameters.cardinality, list):
                if len(each.cat) != len(parameters.cardinality):
                    raise UserError(
                        f"Channel {name}: a series has {len(each.cat)} cat, cardinality {len(parameters.cardinality)}"
                    )
                for value, limit in zip(each.cat, parameters.cardinality, strict=True):
                    if value >= limit:
                        raise UserError(f"Channel {name}: cat {value} is not below its cardinality {limit}")
    if not any(len(each.target) >= parameters.prediction_length for each in data["train"]):
        raise UserError(f"Channel train: no series has prediction_length ({parameters.prediction_length}) points")


def _summary(data: dict[str, list[Series]]) -> dict[str, Any]:
    everything = [each for series in data.values() for each in series]
    return {
        "count": len(data["train"]),
        "observations": sum(len(each.target) for each in data["train"]),
        "cats": sorted({len(each.cat) for each in everything}),
        "categories": [max(values) + 1 for values in zip(*(each.cat for each in data["train"]), strict=False)],
        "tested": [max(values) + 1 for values in zip(*(each.cat for each in data.get("test", ())), strict=False)],
        "dynamic": sorted({len(each.dynamic) for each in everything}),
        "test": len(data.get("test", ())) if "test" in data else None,
    }


def _agree(everywhere: list[dict[str, Any]], parameters: Hyperparameters) -> tuple[list[int], int]:
    """Cardinality and number of dynamic features, of all series of all hosts. Raises UserError, the same one on all hosts."""
    for key, field in (("cats", "cat"), ("dynamic", "dynamic_feat")):
        sizes = {size for told in everywhere for size in told[key]}
        if len(sizes) > 1:
            raise UserError(
                f"All time series must have as many {field} as the others, but some have {min(sizes)}, some {max(sizes)}"
            )
    if sum(told["observations"] for told in everywhere) < _OBSERVATIONS:
        raise UserError(f"Channel train: all time series together have fewer than {_OBSERVATIONS} points")
    if all(told["test"] == 0 for told in everywhere):
        raise UserError("No data in channel test")
    dynamic = everywhere[0]["dynamic"][0]
    if isinstance(parameters.num_dynamic_feat, int) and parameters.num_dynamic_feat != dynamic:
        raise UserError(f"num_dynamic_feat is {parameters.num_dynamic_feat}, but the series have {dynamic} dynamic_feat")
    if isinstance(parameters.cardinality, list):
        return parameters.cardinality, dynamic
    known = [max(values) for values in zip(*(told["categories"] for told in everywhere), strict=True)]
    for told in everywhere:
        for number, (size, limit) in enumerate(zip(told["tested"], known, strict=False)):
            if size > limit:
                raise UserError(f"Channel test: cat {number} is {size - 1} in a series, which channel train does not know")
    return known, dynamic


def _save(predictor: Any, parameters: Hyperparameters) -> None:
    """Write /opt/ml/model, which GluonTS loads: docs/algorithms.md says how."""
    MODEL.mkdir(parents=True, exist_ok=True)
    predictor.serialize(MODEL)
    if parameters.likelihood == "deterministic-L1":
        shutil.copy(Path(__file__).with_name("point.py"), MODEL)


if __name__ == "__main__":
    main()
