"""Distributed deep learning: the example's own script, replicated and sharded, on 1, 2 and 4 encrypted instances."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from algorithms.conftest import roots  # noqa: F401 (a fixture)
from e2e.conftest import ESP, UDP_500, channel
from e2e.test_sdk import written

IMAGE = "763104351884.dkr.ecr.us-west-2.amazonaws.com/pytorch-training:2.3.0-cpu-py311"
SCRIPT = Path(__file__).parents[2] / "examples/pytorch_ddp/train.py"
COUNTS, STRATEGIES, PARAMETERS = (1, 2, 4), ("ddp", "fsdp"), 6090
BOTH = """
import json, os, runpy, sys
here = json.load(open("/opt/ml/input/config/resourceconfig.json"))
os.environ.update(SM_HOSTS=json.dumps(here["hosts"]), SM_CURRENT_HOST=here["current_host"], MASTER_ADDR=here["hosts"][0])
os.environ["SM_CHANNEL_TRAIN"] = "/opt/ml/input/data/digits"
for port, strategy in enumerate(("ddp", "fsdp"), 7777):
    os.environ.update(MASTER_PORT=str(port), SM_MODEL_DIR=f"/opt/ml/model/{strategy}")
    os.makedirs(os.environ["SM_MODEL_DIR"])
    sys.argv = ["train.py", "--strategy", strategy, "--epochs", "4"]
    runpy.run_path("/opt/ml/input/data/code/train.py")
"""
"""The script by one strategy and then the other, as the toolkit would start it, in one process: PyTorch is slow to load."""
PLAIN = """
import json, numpy, torch
from torch import nn
digits = {name: torch.from_numpy(each) for name, each in numpy.load("/opt/ml/digits.npz").items()}
torch.manual_seed(7)
model = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
    nn.Flatten(), nn.Linear(128, 10),
)
optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
for epoch in range(4):
    for batch in torch.randperm(1400, generator=torch.Generator().manual_seed(7 + epoch)).split(40):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(digits["x"][batch]), digits["y"][batch]).backward()
        optimiser.step()
accuracy = (model(digits["test_x"]).argmax(1) == digits["test_y"]).float().mean()
print(json.dumps([{name: each.tolist() for name, each in model.state_dict().items()}, float(accuracy)]))
"""
"""The same training by PyTorch alone: no peers, nothing of torch.distributed."""
LOAD = """
import json, sys, torch
read = lambda name: torch.load(f"/opt/ml/{name}/model.pt", weights_only=True)
print(json.dumps([{key: each.tolist() for key, each in read(name).items()} for name in json.load(sys.stdin)]))
"""


@pytest.mark.timeout(1200)
def test_ddp_and_fsdp_on_1_2_and_4_encrypted_instances_learn_what_one_process_learns(phalanx, roots, tmp_path):  # noqa: F811
    """Every weight within 1e-4 of that of PyTorch without peers, and the accuracy the same to its four digits."""
    s3, digits, place = phalanx.client("s3"), load_digits(), tmp_path / "ml"
    images = (digits.images[:, None] / 16).astype("float32")
    x, test_x, y, test_y = train_test_split(images, digits.target, train_size=1400, random_state=7)
    place.mkdir()
    np.savez(place / "digits.npz", x=x, y=y, test_x=test_x, test_y=test_y)
    s3.upload_file(str(place / "digits.npz"), "test-bucket", "digits/digits.npz")
    s3.upload_file(str(SCRIPT), "test-bucket", "code/train.py")
    s3.put_object(Bucket="test-bucket", Key="code/both.py", Body=BOTH.encode())
    network = phalanx.network(UDP_500, ESP)
    for count in COUNTS:
        phalanx.create(
            f"digits-{count}",
            count,
            network=network,
            AlgorithmSpecification={
                "TrainingImage": IMAGE,
                "TrainingInputMode": "File",
                "ContainerEntrypoint": ["python3", "/opt/ml/input/data/code/both.py"],
                "MetricDefinitions": [{"Name": "test:accuracy", "Regex": r"test accuracy ([0-9.]+)"}],
            },
            InputDataConfig=[channel("digits"), channel("code")],
            # With more threads PyTorch rounds in an order that depends on the size of an instance's batch, and of two pixels
            # that are nearly equal another is the greatest.
            Environment={"OMP_NUM_THREADS": "1"},
            StoppingCondition={"MaxRuntimeInSeconds": 900},
        )
    image, models = roots("pytorch"), [f"{count}/{strategy}" for count in COUNTS for strategy in STRATEGIES]
    for count in COUNTS:
        job = phalanx.ended(f"digits-{count}", 500)
        assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
        evidence = phalanx.evidence(f"digits-{count}")
        assert len(evidence["pairs"]) == count * (count - 1)
        assert all(pair["algorithm"] == "AES_GCM_16" and pair["bytes"] > 0 for pair in evidence["pairs"])
        assert evidence["gaps"] == []
        bucket, _, key = job["ModelArtifacts"]["S3ModelArtifacts"].removeprefix("s3://").partition("/")
        with tarfile.open(fileobj=io.BytesIO(s3.get_object(Bucket=bucket, Key=key)["Body"].read())) as archive:
            archive.extractall(place / str(count), filter="data")
    weights, accuracy = image.python(place, PLAIN)
    assert accuracy > 0.9
    for model, found in zip(models, image.python(place, LOAD, models), strict=True):
        assert found.keys() == weights.keys()
        for name, each in found.items():
            assert np.abs(np.array(each) - np.array(weights[name])).max() < 1e-4, (model, name)
    for count in COUNTS:
        (metric,) = phalanx.describe(f"digits-{count}")["FinalMetricDataList"]
        assert metric["Value"] == pytest.approx(accuracy, abs=1e-4), count
        lines = written(phalanx, f"digits-{count}").values()
        replicated, sharded = zip(*([int(line.split()[2]) for line in host if "keeps" in line] for host in lines), strict=True)
        assert replicated == (PARAMETERS,) * count
        # A share of every layer, and no parameter twice.
        assert sum(sharded) == PARAMETERS
        assert max(sharded) < 1.2 * PARAMETERS / count
