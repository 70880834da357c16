"""The built-in algorithms through the service: encrypted on 1, 2 and 4 instances, held against the plain library."""

import io
import os
import re
import signal
import tarfile

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from algorithms.conftest import roots  # noqa: F401 (a fixture)
from e2e.conftest import ESP, UDP_500, channel, wait_for

XGBOOST = "246618743249.dkr.ecr.us-west-2.amazonaws.com/sagemaker-xgboost:1.7-1"
LINEAR_LEARNER = "174872318107.dkr.ecr.us-west-2.amazonaws.com/linear-learner:1"
COUNTS = (1, 2, 4)

ROUNDS, TREES = 30, {"objective": "binary:logistic", "max_depth": "3", "eta": "0.3", "tree_method": "hist"}
BOOSTED = """
import json, sys, numpy as np, xgboost
table, held_out, names = json.load(sys.stdin)
table, features = np.array(table, "float32"), xgboost.DMatrix(np.array(held_out, "float32")[:, 1:])
found = []
for name in names:
    booster = xgboost.Booster()
    booster.load_model(f"/opt/ml/{name}/xgboost-model")
    found.append(booster.predict(features).tolist())
train = xgboost.DMatrix(table[:, 1:], table[:, 0])
reference = xgboost.train(dict(objective="binary:logistic", max_depth=3, eta=0.3, tree_method="hist"), train, ROUNDS)
print(json.dumps([reference.predict(features).tolist(), *found]))
""".replace("ROUNDS", str(ROUNDS))
LINEAR = """
import json, sys, torch
_, held_out, names = json.load(sys.stdin)
features, found = torch.tensor(held_out)[:, 1:], []
for name in names:
    model = torch.load(f"/opt/ml/{name}/model_algo-1", weights_only=True)
    found.append(torch.sigmoid(features @ model["weight"].T + model["bias"]).squeeze(1).tolist())
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def network(phalanx):
    return phalanx.network(UDP_500, ESP)


@pytest.fixture(scope="module")
def cancer(phalanx):
    """Wisconsin breast cancer in S3: four files of training data, one of validation data. The two tables."""
    data = load_breast_cancer()
    table, held_out = train_test_split(np.column_stack([data.target, data.data]), test_size=0.25, random_state=7)
    for part, rows in enumerate(np.array_split(table, 4)):
        put(phalanx, f"cancer/part-{part}.csv", rows)
    put(phalanx, "held-out/all.csv", held_out)
    return table, held_out


def put(phalanx, key, table):
    text = "".join(",".join(f"{value:.8g}" for value in row) + "\n" for row in table)
    phalanx.client("s3").put_object(Bucket="test-bucket", Key=key, Body=text.encode())


def trained(phalanx, network, name, image, hyperparameters, folder):
    """Train on 1, 2 and 4 instances at once: the jobs, and their models in folders of the same names."""
    channels = [channel("cancer", "ShardedByS3Key", "train"), channel("held-out", name="validation")]
    names = [f"{name}-{count}" for count in COUNTS]
    for job, count in zip(names, COUNTS, strict=True):
        algorithm = {"TrainingImage": image, "TrainingInputMode": "File"}
        members = {"AlgorithmSpecification": algorithm, "HyperParameters": hyperparameters, "InputDataConfig": channels}
        members["StoppingCondition"] = {"MaxRuntimeInSeconds": 900}
        phalanx.create(job, count, network=network, **members)
    jobs = [phalanx.ended(job, 400) for job in names]
    for job in jobs:
        assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
        bucket, _, key = job["ModelArtifacts"]["S3ModelArtifacts"].removeprefix("s3://").partition("/")
        body = phalanx.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
        with tarfile.open(fileobj=io.BytesIO(body)) as archive:
            archive.extractall(folder / job["TrainingJobName"], filter="data")
    for job, count in zip(names, COUNTS, strict=True):
        evidence = phalanx.evidence(job)
        assert len(evidence["pairs"]) == count * (count - 1)
        assert all(pair["algorithm"] == "AES_GCM_16" and pair["bytes"] > 0 for pair in evidence["pairs"])
        assert evidence["gaps"] == []
    return jobs, names


def final(job):
    return {metric["MetricName"]: metric["Value"] for metric in job["FinalMetricDataList"]}


def test_xgboost_on_1_2_and_4_encrypted_instances_is_the_plain_library(phalanx, network, cancer, roots, tmp_path):  # noqa: F811
    """On one instance within 1e-4 of each probability; on several within 0.01 of the AUC and 0.05 of the log loss."""
    table, held_out = cancer
    hyperparameters = {**TREES, "num_round": str(ROUNDS), "eval_metric": "auc,logloss"}
    (tmp_path / "ml").mkdir()
    jobs, names = trained(phalanx, network, "xgboost", XGBOOST, hyperparameters, tmp_path / "ml")
    given = [table.tolist(), held_out.tolist(), names]
    reference, *found = map(np.array, roots("xgboost").python(tmp_path / "ml", BOOSTED, given))
    truth = held_out[:, 0]
    assert found[0] == pytest.approx(reference, abs=1e-4)
    for job, scores in zip(jobs, found, strict=True):
        assert roc_auc_score(truth, scores) == pytest.approx(roc_auc_score(truth, reference), abs=0.01)
        assert log_loss(truth, scores) == pytest.approx(log_loss(truth, reference), abs=0.05)
        assert final(job)["validation:auc"] == pytest.approx(roc_auc_score(truth, scores), abs=1e-4)
        assert final(job)["validation:logloss"] == pytest.approx(log_loss(truth, scores), abs=1e-4)
        assert {"train:auc", "train:logloss"} <= set(final(job))


def test_the_linear_learner_on_1_2_and_4_encrypted_instances_is_logistic_regression(
    phalanx,
    network,
    cancer,
    roots,  # noqa: F811
    tmp_path,
):
    """Within 0.01 of the AUC and 0.03 of the log loss of scikit-learn's, and so of each other."""
    table, held_out = cancer
    hyperparameters = {"predictor_type": "binary_classifier", "mini_batch_size": "50"}
    (tmp_path / "ml").mkdir()
    jobs, names = trained(phalanx, network, "linear", LINEAR_LEARNER, hyperparameters, tmp_path / "ml")
    found = roots("linear-learner").python(tmp_path / "ml", LINEAR, [[], held_out.tolist(), names])
    truth, scaler = held_out[:, 0], StandardScaler().fit(table[:, 1:])
    plain = LogisticRegression().fit(scaler.transform(table[:, 1:]), table[:, 0])
    reference = plain.predict_proba(scaler.transform(held_out[:, 1:]))[:, 1]
    for job, scores in zip(jobs, found, strict=True):
        assert roc_auc_score(truth, scores) == pytest.approx(roc_auc_score(truth, reference), abs=0.01)
        assert log_loss(truth, scores) == pytest.approx(log_loss(truth, reference), abs=0.03)
        assert final(job)["validation:roc_auc_score"] == pytest.approx(roc_auc_score(truth, scores), abs=1e-4)
        assert final(job)["validation:objective_loss:final"] == pytest.approx(log_loss(truth, scores), abs=1e-3)
        assert {"train:objective_loss", "train:progress", "validation:binary_classification_accuracy"} <= set(final(job))


def test_what_one_instance_cannot_do_ends_all_and_is_told(phalanx, network, cancer):
    """A label that the objective does not take, and a file that is no table, on one instance of two."""
    channels = {"wrong-label": "AlgorithmError: algo-2: ", "ragged": "AlgorithmError: algo-2: "}
    put(phalanx, "wrong-label/part-0.csv", cancer[0][:50])
    put(phalanx, "wrong-label/part-1.csv", [[7, *row[1:]] for row in cancer[0][:50]])
    put(phalanx, "ragged/part-0.csv", cancer[0][:50])
    put(phalanx, "ragged/part-1.csv", [[1, 2, 3], [1, 2, 3, 4]])
    for name in channels:
        phalanx.create(name, network=network, InputDataConfig=[channel(name, "ShardedByS3Key", "train")])
    reasons = {name: phalanx.ended(name)["FailureReason"] for name in channels}
    assert reasons["wrong-label"] == (
        "AlgorithmError: algo-2: Channel train: label must be in [0, 1] for this objective, but 7.0 was found, exit code: 1"
    )
    assert reasons["ragged"].startswith("AlgorithmError: algo-2: Failed to load csv data of channel train (part-1.csv)")


def test_the_death_of_one_instance_ends_all_and_is_told(phalanx, network):
    endless = {"objective": "binary:logistic", "eval_metric": "auc", "num_round": "1000000"}
    phalanx.create("killed", network=network, HyperParameters=endless)
    phalanx.training("killed", 1)
    pids = phalanx.processes("/opt/program/train.py")
    os.kill(max(pids), signal.SIGKILL)
    reason = phalanx.ended("killed")["FailureReason"]
    # By the words of its peers, where they notice within the time that they get; else by how it ended itself.
    assert re.match(r"AlgorithmError: (algo-\d.* ended before training was complete|, exit code: 137)", reason), reason
    assert phalanx.processes("/opt/program/train.py") == {}


HUNGRY = """
import json, time
if json.load(open("/opt/ml/input/config/resourceconfig.json"))["current_host"] == "algo-2":
    held = b"x" * (5 << 30)
time.sleep(600)
"""


def test_an_instance_out_of_memory_ends_all_and_is_told(phalanx, network):
    phalanx.client("s3").put_object(Bucket="test-bucket", Key="hungry/main.py", Body=HUNGRY.encode())
    phalanx.create(
        "hungry",
        network=network,
        ResourceConfig={"InstanceType": "ml.t3.medium", "InstanceCount": 2, "VolumeSizeInGB": 1},
        InputDataConfig=[channel("hungry")],
        AlgorithmSpecification={
            "TrainingImage": XGBOOST,
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["python3", "/opt/ml/input/data/hungry/main.py"],
        },
    )
    reason = phalanx.ended("hungry")["FailureReason"]
    assert reason == (
        "ClientError: Please use an instance type with more memory, or reduce the size of job data processed"
        " on an instance., exit code: 137"
    )
    wait_for(lambda: phalanx.processes("main.py") == {}, 30, "all instances to stop")
