"""DeepAR, chosen by SageMaker's own image URI, on one instance and on several whose traffic is encrypted."""

import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from statsmodels.datasets import elnino

from algorithms.conftest import Root
from e2e.conftest import ESP, UDP_500, channel
from phalanx.algorithms import catalog
from phalanx.cli.settings import IMAGES
from phalanx.runtime.images import Images

IMAGE = "156387875391.dkr.ecr.us-west-2.amazonaws.com/forecasting-deepar:1"
HORIZON = 12
HYPERPARAMETERS = {
    "time_freq": "M",
    "prediction_length": str(HORIZON),
    "context_length": "24",
    "epochs": "25",
    "learning_rate": "0.005",
    "mini_batch_size": "32",
    "num_cells": "30",
}
PLAIN = """
import json, sys
from pathlib import Path
import lightning.pytorch as pl, pandas as pd
from gluonts.model.predictor import Predictor
from gluonts.torch import DeepAREstimator
series = [{**each, "start": pd.Period(each["start"], freq="M")} for each in json.load(sys.stdin)]
estimator = DeepAREstimator(
    freq="M", prediction_length=12, context_length=24, hidden_size=30, lr=0.005, batch_size=32, num_batches_per_epoch=10,
    trainer_kwargs={"max_epochs": 25, "accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False,
                    "logger": False, "default_root_dir": "/tmp"},
)
def train(seed):
    pl.seed_everything(seed, verbose=False)
    return estimator.train(series)
predictors = [train(1), train(2), *(Predictor.deserialize(Path("/opt/ml") / name) for name in ("1", "2", "4"))]
print(json.dumps([[each.samples.tolist() for each in made.predict(series, num_samples=400)] for made in predictors]))
"""
"""GluonTS's own training, from two seeds, and the jobs' models as docs/algorithms.md loads them: samples of each series' last
year."""


def decades():
    """Sea surface temperatures of the eastern Pacific by month, a series for each of six decades."""
    years = elnino.load_pandas().data.set_index("YEAR")
    return [
        {"start": f"{first}-01-01 00:00:00", "target": years.loc[first : first + 9].to_numpy().ravel().tolist()}
        for first in range(1950, 2010, 10)
    ]


def scores(truth, samples):
    """RMSE and mean_wQuantileLoss, by SageMaker's definitions, of (series, samples, points)."""
    losses = []
    for q in np.arange(1, 10) / 10:
        error = truth - np.quantile(samples, q, axis=1)
        losses.append(2 * np.maximum(q * error, (q - 1) * error).sum() / np.abs(truth).sum())
    return float(np.sqrt(((truth - samples.mean(1)) ** 2).mean())), float(np.mean(losses))


# The first to want the image builds it.
@pytest.mark.timeout(1200)
def test_deepar_on_one_two_and_four_encrypted_instances_forecasts_as_gluonts_does(phalanx, tmp_path):
    """RMSE and mean_wQuantileLoss within a tenth of those of GluonTS's own training on all series, which differ by a sixth
    from seed to seed."""
    series = decades()
    known = [{**each, "target": each["target"][:-HORIZON]} for each in series]
    s3 = phalanx.client("s3")
    for number, (short, whole) in enumerate(zip(known, series, strict=True)):
        for kind, content in (("known", short), ("whole", whole)):
            s3.put_object(Bucket="test-bucket", Key=f"elnino/{kind}/{number}.json", Body=json.dumps(content).encode() + b"\n")
    network = phalanx.network(UDP_500, ESP)
    for count in (1, 2, 4):
        phalanx.create(
            f"deepar-{count}",
            count,
            network=network,
            AlgorithmSpecification={"TrainingImage": IMAGE, "TrainingInputMode": "File"},
            HyperParameters=HYPERPARAMETERS,
            InputDataConfig=[
                {**channel(f"elnino/{prefix}", "ShardedByS3Key", name), "ContentType": "jsonlines"}
                for name, prefix in (("train", "known"), ("test", "whole"))
            ],
            StoppingCondition={"MaxRuntimeInSeconds": 600},
        )
    for count in (1, 2, 4):
        name = f"deepar-{count}"
        job = phalanx.ended(name, 500)
        assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
        assert len(phalanx.evidence(name)["pairs"]) == count * (count - 1)
        bucket, _, key = job["ModelArtifacts"]["S3ModelArtifacts"].removeprefix("s3://").partition("/")
        archive = io.BytesIO(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
        with tarfile.open(fileobj=archive) as packed:
            packed.extractall(tmp_path / "ml" / str(count), filter="data")
    images = Images(IMAGES, Path(f"/run/phalanx/images-tests-{os.getpid()}"))
    samples = Root(images, catalog.find(IMAGE)).python(tmp_path / "ml", PLAIN, known)
    truth = np.array([each["target"][-HORIZON:] for each in series])
    one, another, *found = (scores(truth, np.array(each)) for each in samples)
    assert max(one[0], another[0]) < truth.std(), "what GluonTS learns is more than a mean"
    for count, (rmse, loss) in zip((1, 2, 4), found, strict=True):
        for reached, *references in zip((rmse, loss), one, another, strict=True):
            assert 0.9 * min(references) < reached < 1.1 * max(references), count
        said = {each["MetricName"]: each["Value"] for each in phalanx.describe(f"deepar-{count}")["FinalMetricDataList"]}
        assert said["test:RMSE"] == pytest.approx(rmse, rel=0.1)
        assert said["test:mean_wQuantileLoss"] == pytest.approx(loss, rel=0.1)
        assert "train:final_loss" in said
