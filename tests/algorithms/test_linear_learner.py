import random
import re
import shutil
from functools import partial

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.linear_model import LinearRegression, LogisticRegression, QuantileRegressor
from sklearn.metrics import accuracy_score, log_loss, mean_squared_error, precision_recall_curve, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from algorithms.conftest import recordio

CANCER = {"predictor_type": "binary_classifier", "mini_batch_size": "50"}
DIABETES = {"predictor_type": "regressor", "mini_batch_size": "50", "epochs": "40"}
DIGITS = {"predictor_type": "multiclass_classifier", "num_classes": "10", "mini_batch_size": "100"}

LOADER = """
import torch
model = torch.load(path, weights_only=True)
scores = torch.tensor(features) @ model["weight"].T + model["bias"]
if model["loss"] == "logistic":
    scores = torch.sigmoid(scores)
"""
"""As docs/algorithms.md has it."""
PREDICT = f"""
import json, sys
path, features = "/opt/ml/model/model_algo-1", json.load(sys.stdin)
{LOADER}
print(json.dumps([scores.squeeze(1).tolist(), model.get("threshold")]))
"""
SEVERAL = f"""
import io, json, logging, pathlib, resource, sys, tempfile
sys.path.insert(0, "/opt/program")
import contract, train
done = []
for hyperparameters, channels, features in json.load(sys.stdin):
    root = contract.ROOT = pathlib.Path(tempfile.mkdtemp())
    train.MODEL = root / "model"
    for name, (kind, files) in channels.items():
        for file, content in files.items():
            (root / "input/data" / name).mkdir(parents=True, exist_ok=True)
            (root / "input/data" / name / file).write_text(content)
    (root / "input/config").mkdir(parents=True)
    configuration = {{name: {{"ContentType": kind}} for name, (kind, _) in channels.items()}}
    (root / "input/config/inputdataconfig.json").write_text(json.dumps(configuration))
    log = io.StringIO()
    logging.basicConfig(stream=log, level=logging.INFO, format="%(message)s", force=True)
    result = {{"error": None}}
    try:
        train.train(train.read(hyperparameters), contract.Resources("algo-1", ("algo-1",), "eth0"), None)
        path = train.MODEL / "model_algo-1"
        {LOADER.strip().replace(chr(10), chr(10) + "        ")}
        result["scores"] = scores.squeeze(1).tolist()
    except contract.UserError as error:
        result["error"] = str(error)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    done.append({{**result, "output": log.getvalue(), "peak": peak}})
print(json.dumps(done))
"""
"""Runs of the program on one host, in one process: most of a short run's time is PyTorch's start. `peak` is memory, in MB."""


@pytest.fixture
def algorithm():
    return "linear-learner"


def csv(table):
    return "".join(",".join(f"{value:.8g}" for value in row) + "\n" for row in table)


def split(data):
    return train_test_split(np.column_stack([data.target, data.data]), test_size=0.25, random_state=7)


def train(hosts, hyperparameters, table, validation=None, kind="text/csv", write=csv, **channels):
    """Train on shards of a table, with the whole validation table on every host."""
    count = len(hosts.hosts)
    codes = hosts.run(
        hyperparameters,
        lambda i: {
            "train": (kind, {"part": write(table[i::count])}),
            **({"validation": (kind, {"all": write(validation)})} if validation is not None else {}),
            **{name: (kind, {"all": write(rows)}) for name, rows in channels.items()},
        },
    )
    assert codes == [0] * count, "".join(map(hosts.output, hosts.hosts))


def several(roots, tmp_path, runs):
    """Each of `runs` (hyperparameters, table) on one host: its output, and its model's scores of the table's features."""
    cases = [[given, {"train": ("text/csv", {"t": csv(table)})}, table[:, 1:].tolist()] for given, table in runs]
    done = roots("linear-learner").python(tmp_path / "several", SEVERAL, cases)
    assert [each["error"] for each in done] == [None] * len(runs)
    return [(each["output"], np.array(each["scores"])) for each in done]


def metrics(output):
    """The last value of each metric in the first host's output."""
    return {name: float(value) for name, value in re.findall(r"#quality_metric: host=algo-1, (.*) <\w+>=(\S+)", output)}


def test_a_binary_classifier_on_one_host_and_two_is_the_reference(cluster):
    """Within 0.02 of accuracy, 0.01 of AUC and 0.03 of log loss of scikit-learn's logistic regression."""
    table, held_out = split(load_breast_cancer())
    truth, scaler = held_out[:, 0], StandardScaler().fit(table[:, 1:])
    reference = LogisticRegression().fit(scaler.transform(table[:, 1:]), table[:, 0])
    expected = reference.predict_proba(scaler.transform(held_out[:, 1:]))[:, 1]
    for count in (1, 2):
        hosts = cluster(count)
        train(hosts, CANCER, table, held_out, test=held_out)
        scores, threshold = hosts.python(PREDICT, held_out[:, 1:].tolist())
        accuracy = accuracy_score(truth, np.array(scores) >= threshold)
        assert accuracy == pytest.approx(accuracy_score(truth, expected > 0.5), abs=0.02)
        assert roc_auc_score(truth, scores) == pytest.approx(roc_auc_score(truth, expected), abs=0.01)
        assert log_loss(truth, scores) == pytest.approx(log_loss(truth, expected), abs=0.03)
        # What the program says of its model is what scikit-learn says of it.
        said = metrics(hosts.output())
        assert said["test binary_classification_accuracy"] == pytest.approx(accuracy)
        assert said["test roc_auc_score"] == pytest.approx(roc_auc_score(truth, scores))
        assert said["test binary_classification_cross_entropy_objective"] == pytest.approx(log_loss(truth, scores), abs=1e-4)
        assert "epoch=0, validation binary_classification_cross_entropy_objective" in said
        assert [list(hosts.model(host).iterdir()) for host in hosts.hosts[1:]] == [[]] * (count - 1)


def test_a_regressor_is_least_squares(cluster):
    """Within 2 % of the mean squared error of scikit-learn's linear regression."""
    table, held_out = split(load_diabetes())
    hosts = cluster(2)
    train(hosts, DIABETES, table, held_out, kind="application/x-recordio-protobuf", write=recordio)
    scores, _ = hosts.python(PREDICT, held_out[:, 1:].tolist())
    error = mean_squared_error(held_out[:, 0], scores)
    reference = LinearRegression().fit(table[:, 1:], table[:, 0]).predict(held_out[:, 1:])
    assert error <= 1.02 * mean_squared_error(held_out[:, 0], reference)
    assert metrics(hosts.output())["validation mse"] == pytest.approx(error, rel=1e-4)
    assert metrics(hosts.output())["validation mse_objective"] == pytest.approx(error, rel=1e-3)


def test_a_multiclass_classifier_of_sparse_rows(cluster):
    """Within 0.02 of the accuracy of scikit-learn's logistic regression."""
    table, held_out = split(load_digits())
    hosts = cluster(2)
    given = {**DIGITS, "num_models": "4", "balance_multiclass_weights": "true", "feature_dim": "64"}
    train(hosts, given, table, held_out, "application/x-recordio-protobuf", partial(recordio, sparse=True))
    scaler = StandardScaler().fit(table[:, 1:])
    reference = LogisticRegression(max_iter=1000).fit(scaler.transform(table[:, 1:]), table[:, 0])
    scores, _ = hosts.python(PREDICT, held_out[:, 1:].tolist())
    accuracy = accuracy_score(held_out[:, 0], np.argmax(scores, axis=1))
    assert accuracy == pytest.approx(reference.score(scaler.transform(held_out[:, 1:]), held_out[:, 0]), abs=0.02)
    said = metrics(hosts.output())
    assert said["validation multiclass_accuracy"] == pytest.approx(accuracy)
    assert said["validation multiclass_top_k_accuracy_3"] > accuracy
    assert {"validation dcg", "validation macro_f_1.000", "validation macro_recall", "validation macro_precision"} <= set(said)


def test_quantile_loss_is_quantile_regression(roots, tmp_path):
    """Within 5 % of the pinball loss of scikit-learn's quantile regressor."""
    table, _ = split(load_diabetes())
    given = {**DIABETES, "loss": "quantile_loss", "quantile": "0.8", "num_models": "4"}
    ((_, scores),) = several(roots, tmp_path, [(given, table)])
    reference = QuantileRegressor(quantile=0.8, alpha=0).fit(table[:, 1:], table[:, 0])

    def pinball(scores):
        error = table[:, 0] - scores
        return np.maximum(0.8 * error, -0.2 * error).mean()

    assert pinball(scores) <= 1.05 * pinball(reference.predict(table[:, 1:]))


def test_losses_and_optimizers_find_a_line(roots, tmp_path):
    source = np.random.default_rng(1)
    features = source.normal(size=(400, 3)) * [1, 10, 0.1] + [5, 0, 100]
    table = np.column_stack([features @ [2, -0.3, 7] + 11, features])
    runs = [
        ({**DIABETES, "loss": loss, "optimizer": optimizer, "num_models": "2", "learning_rate": "0.05"}, table)
        for loss in ("absolute_loss", "eps_insensitive_squared_loss", "eps_insensitive_absolute_loss", "huber_loss")
        for optimizer in ("adam", "sgd", "rmsprop")
    ]
    for (given, _), (_, scores) in zip(runs, several(roots, tmp_path, runs), strict=True):
        assert mean_squared_error(table[:, 0], scores) < 0.05 * table[:, 0].var(), given


def test_features_that_are_constant_or_narrow_are_learned_beside_the_others(cluster, roots, tmp_path):
    """float32 has neither their exact mean nor the exact squares that a deviation is made of."""
    features = np.random.default_rng(5).normal(size=(8000, 2))
    few = features[:1500]
    constant = np.column_stack([few.sum(1) > 0, few, np.full(1500, 0.1), np.full(1500, 1234.567)]).astype(float)
    two = cluster(2)
    train(two, {**CANCER, "epochs": "10"}, constant, None, "application/x-recordio-protobuf", partial(recordio, sparse=True))
    assert metrics(two.output())["train binary_classification_accuracy"] > 0.98
    times = 1.7e9 + 2e4 * features[:, 0]
    line = np.column_stack([3 * features[:, 0] - features[:, 1], times, features[:, 1], np.full(8000, 0.1)])
    given = {**DIABETES, "num_models": "2", "epochs": "3", "mini_batch_size": "200", "learning_rate": "0.05"}
    ((_, scores),) = several(roots, tmp_path, [(given, line)])
    assert mean_squared_error(line[:, 0], scores) < 0.01 * line[:, 0].var()


def test_many_classes_need_little_memory(roots, tmp_path):
    source = np.random.default_rng(6)
    table = np.column_stack([np.arange(4000) % 2000, source.normal(size=(4000, 5))])
    given = {**DIGITS, "num_classes": "2000", "mini_batch_size": "4000", "num_models": "16", "epochs": "1"}
    case = [given, {"train": ("text/csv", {"t": csv(table)})}, table[:1, 1:].tolist()]
    (done,) = roots("linear-learner").python(tmp_path / "several", SEVERAL, [case])
    assert done["error"] is None
    # With all scores in memory at once it took 2600 MB; how much the allocator keeps depends on who else runs.
    assert done["peak"] < 1300


def test_what_is_asked_for_of_positive_examples_is_kept(roots, tmp_path):
    cancer, _ = split(load_breast_cancer())
    hinge = {**CANCER, "loss": "hinge_loss", "num_models": "3", "target_recall": "0.99", "target_precision": "0.99"}
    source = np.random.default_rng(3)
    features = source.normal(size=(1000, 2))
    rare = np.column_stack([features[:, 0] + source.normal(size=1000) > 2.2, features]).astype(float)
    loss = {**CANCER, "binary_classifier_model_selection_criteria": "loss_function", "num_models": "1", "learning_rate": "0.05"}
    tuned = {**CANCER, "_tuning_objective_metric": "train:objective_loss", "num_models": "9", "epochs": "2"}
    runs = [
        ({**hinge, "binary_classifier_model_selection_criteria": "precision_at_target_recall"}, cancer),
        ({**hinge, "binary_classifier_model_selection_criteria": "recall_at_target_precision"}, cancer),
        *(({**loss, "positive_example_weight_mult": weight}, rare) for weight in ("0.1", "1", "balanced")),
        (tuned, cancer),
    ]
    done = several(roots, tmp_path, runs)
    outputs = [output for output, _ in done]
    recall, precision, *weighted, tuning = map(metrics, outputs)
    # As good as any threshold of the model's own scores can be.
    precisions, recalls, _ = precision_recall_curve(cancer[:, 0], done[0][1])
    assert recall["train recall"] >= 0.99
    assert 0.9 < recall["train precision"] == pytest.approx(precisions[recalls >= 0.99].max())
    precisions, recalls, _ = precision_recall_curve(cancer[:, 0], done[1][1])
    assert precision["train precision"] >= 0.99
    assert 0.85 < precision["train recall"] == pytest.approx(recalls[precisions >= 0.99].max())
    recalls = [each["train recall"] for each in weighted]
    assert recalls == sorted(recalls)
    assert recalls[0] < 0.3 < 0.8 < recalls[2]
    # A tuning job searches by itself.
    assert "Training 1 models on 426 rows of 30 features" in outputs[-1]
    assert "train roc_auc_score" in tuning


def one_in_seven(count, seed):
    """Rows of which about one in seven is positive."""
    source = np.random.default_rng(seed)
    features = source.normal(size=(count, 3))
    return np.column_stack([features[:, :2].sum(1) + source.normal(size=count) > 1.8, features]).astype(float)


def test_the_order_of_rows_does_not_matter(roots, tmp_path):
    """More rows than the criterion of an epoch looks at, or the threshold: the first 10,000 sorted ones are negative."""
    table, held_out = one_in_seven(3000, 1), one_in_seven(12_000, 2)
    held_out = held_out[held_out[:, 0].argsort(kind="stable")]
    assert not held_out[:10_000, 0].any()
    mixed = np.random.default_rng(4).permutation(held_out)
    given = {**CANCER, "num_models": "2", "epochs": "4", "mini_batch_size": "200", "target_recall": "0.8"}
    asked = {**given, "num_calibration_samples": "4000"}
    runs = [
        (given | {"binary_classifier_model_selection_criteria": "f1"}, {"v": csv(mixed)}),
        (given | {"binary_classifier_model_selection_criteria": "f1"}, {"v": csv(held_out)}),
        (
            asked | {"binary_classifier_model_selection_criteria": "precision_at_target_recall"},
            {"negative": csv(held_out[held_out[:, 0] == 0]), "positive": csv(held_out[held_out[:, 0] == 1])},
        ),
    ]
    cases = [
        [given, {"train": ("csv", {"t": csv(table)}), "validation": ("csv", files)}, [[0.0, 0.0, 0.0]]] for given, files in runs
    ]
    done = roots("linear-learner").python(tmp_path / "several", SEVERAL, cases)
    assert [each["error"] for each in done] == [None] * 3
    sampled = [[-float(value) for value in re.findall(r"sampled_f1, value=(\S+)", each["output"])] for each in done[:2]]
    assert min(sampled[0]) > 0.6
    assert sampled[1] == pytest.approx(sampled[0], abs=0.03)
    assert metrics(done[2]["output"])["validation recall"] == pytest.approx(0.8, abs=0.03)


def test_each_host_gives_its_share_of_a_sample(cluster):
    """All positive rows on one host: they are as rare in the sample as they are."""
    two = cluster(2)
    table, held_out = one_in_seven(2000, 1), one_in_seven(6000, 2)
    given = {**CANCER, "num_models": "2", "epochs": "4", "num_calibration_samples": "1000"}
    codes = two.run(
        given,
        lambda i: {
            "train": ("csv", {"t": csv(table[i::2])}),
            "validation": ("csv", {"v": csv(held_out[held_out[:, 0] == i])}),
        },
    )
    assert codes == [0, 0], two.output()
    scores, threshold = two.python(PREDICT, held_out[:, 1:].tolist())
    found = accuracy_score(held_out[:, 0], np.array(scores) >= threshold)
    assert found > accuracy_score(held_out[:, 0], np.array(scores) >= 0.5) - 0.01
    assert metrics(two.output())["validation binary_classification_accuracy"] == pytest.approx(found)


def test_training_goes_on_from_a_checkpoint(cluster):
    table, _ = split(load_breast_cancer())
    two = cluster(2)
    for host in two.hosts:
        (two.root / host / "checkpoints").mkdir(parents=True)
    train(two, {**CANCER, "epochs": "3"}, table)
    assert [path.name for path in (two.root / "algo-1/checkpoints").iterdir()] == ["linear-learner"]
    assert list((two.root / "algo-2/checkpoints").iterdir()) == []
    shutil.copy(two.root / "algo-1/checkpoints/linear-learner", two.root / "algo-2/checkpoints")
    train(two, {**CANCER, "epochs": "5"}, table)
    assert "Resuming from the checkpoint of epoch 2" in two.output("algo-2")
    assert [int(n) for n in re.findall(r"epoch=(\d+), train", two.output())] == [3, 4]


GOOD = [[i % 2, i % 3, i] for i in range(60)]
USER_ERRORS = {
    "no type": ({"predictor_type": None}, {}, "Missing required hyperparameter: predictor_type"),
    "no classes": ({"predictor_type": "multiclass_classifier"}, {}, "Missing required hyperparameter: num_classes"),
    "range": (
        {"predictor_type": "multiclass_classifier", "num_classes": "2"},
        {},
        r"Hyperparameter num_classes: 2 is not in \[3, 1000000\]",
    ),
    "loss": ({"loss": "squared_loss"}, {}, r"loss: squared_loss is not in \[auto, logistic, hinge_loss\]"),
    "unknown": ({"depth": "3"}, {}, "Extraneous hyperparameter found: depth"),
    "no train": ({}, {"train": None}, "Missing required channel: train"),
    "empty": ({}, {"train": ("text/csv", {"t": ""})}, "No data in channel train"),
    "empty validation": ({}, {"validation": ("text/csv", {})}, "No data in channel validation"),
    "label": ({}, {"train": ("text/csv", {"t": "0,1\n2,1\n"})}, "labels must be whole numbers from 0 to 1 .* but 2 was found"),
    "ragged": ({}, {"train": ("text/csv", {"t": "0,1,2\n1,2\n"})}, r"Failed to load csv data of channel train \(t\).*row 2"),
    "header": ({}, {"train": ("text/csv", {"t": "y,x\n1,2\n"})}, "Failed to load csv data of channel train.*no header"),
    "missing": ({}, {"train": ("text/csv", {"t": "1,nan\n0,2\n"})}, "1 feature values are missing"),
    "columns": ({}, {"validation": ("text/csv", {"v": "1,2\n"})}, "the widest has 2, but.*1 in validation"),
    "feature_dim": ({"feature_dim": "3"}, {}, "Feature size mismatch: feature_dim is 3, but there are 2 in train"),
    "not recordio": ({}, {"train": (None, {"t": csv(GOOD)})}, r"recordio-protobuf data .*\(t, record 1\).*text/csv"),
    "nan": (
        {"predictor_type": "regressor", "optimizer": "sgd", "learning_rate": "1e38", "num_models": "1"},
        {},
        "The training loss is not a finite number in epoch 0: reduce learning_rate",
    ),
}


def test_users_errors_are_told(roots, tmp_path):
    cases = []
    for changes, channels, _ in USER_ERRORS.values():
        hyperparameters = {name: value for name, value in {**CANCER, "mini_batch_size": "10", **changes}.items() if value}
        given = {name: value for name, value in {"train": ("text/csv", {"t": csv(GOOD)}), **channels}.items() if value}
        cases.append([hyperparameters, given, []])
    done = roots("linear-learner").python(tmp_path / "several", SEVERAL, cases)
    for (name, (_, _, expected)), each in zip(USER_ERRORS.items(), done, strict=True):
        assert re.search(expected, each["error"] or "", re.DOTALL), (name, each["error"])


def test_what_has_no_meaning_is_passed_over(cluster):
    """num_classes without classes; a byte order mark and quotes in CSV."""
    quoted = "\ufeff" + "".join(",".join(f'"{value}"' for value in row) + "\r\n" for row in GOOD)
    one = cluster(1)
    given = {**CANCER, "mini_batch_size": "10", "num_classes": "2"}
    assert one.run(given, lambda _: {"train": ("text/csv", {"t": quoted})}) == [0], one.output()
    assert "Hyperparameter num_classes has no effect" in one.output()
    assert "Training 32 models on 60 rows of 2 features" in one.output()


def test_an_error_of_one_host_ends_all(cluster):
    two = cluster(2)
    codes = two.run(CANCER, lambda i: {"train": ("text/csv", {"t": "0,1,2\n1,oops,3\n" if i else csv(GOOD)})})
    assert codes == [1, 1]
    for host in two.hosts:
        assert two.failure(host).startswith("algo-2: Failed to load csv data of channel train")


def test_the_death_of_a_host_ends_the_others_with_a_message(cluster):
    two = cluster(2)
    endless = {**CANCER, "epochs": "1000000", "early_stopping_patience": "1000001"}
    rows = [[i % 2, random.Random(i).gauss(0, 1)] for i in range(500)]
    for host in two.hosts:
        two.prepare(host, endless, {"train": ("text/csv", {"t": csv(rows)})})
    first, second = (two.start(host) for host in two.hosts)
    while "epoch=3" not in two.output():
        assert first.poll() is None, two.output()
    second.kill()
    assert first.wait() == 1
    assert two.failure() == "algo-2 ended before training was complete"
