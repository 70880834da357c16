import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
from functools import partial

import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score, mean_squared_error, precision_score, r2_score, recall_score

from algorithms.conftest import recordio

BINARY = {
    "objective": "binary:logistic",
    "num_round": "8",
    "max_depth": "3",
    "eta": "0.3",
    "eval_metric": "auc,logloss",
    "tree_method": "hist",
    "seed": "7",
}


def rows(count, seed=0, features=6):
    """Rows of label and features; the label depends on the first two."""
    source = random.Random(seed)
    made = []
    for _ in range(count):
        row = [round(source.gauss(0, 1), 4) for _ in range(features)]
        made.append([1 if row[0] + 0.5 * row[1] + source.gauss(0, 0.3) > 0 else 0, *row])
    return made


def csv(table):
    return "".join(",".join(map(str, row)) + "\n" for row in table)


def libsvm(table):
    return "".join(f"{row[0]} " + " ".join(f"{i}:{v}" for i, v in enumerate(row[1:]) if v) + "\n" for row in table)


def shards(table, count):
    return [table[i::count] for i in range(count)]


def metrics(output):
    """{metric: values by round} of the lines that were printed."""
    found = {}
    for line in output.splitlines():
        if re.match(r"\[\d\d:\d\d:\d\d\] \[\d+\]\t", line):
            for field in line.split("\t")[1:]:
                name, value = field.split(":")
                found.setdefault(name, []).append(float(value))
    return found


TRAIN, VALIDATION = rows(600), rows(200, seed=1)
FEATURES = [row[1:] for row in VALIDATION]


@pytest.fixture
def algorithm():
    return "xgboost"


LOAD = "import json, sys, numpy as np, xgboost as x; b = x.Booster(); b.load_model('/opt/ml/model/xgboost-model');"
PREDICT = LOAD + "print(json.dumps([b.num_boosted_rounds(), b.predict(x.DMatrix(np.array(json.load(sys.stdin)))).tolist()]))"


def predictions(hosts):
    """Number of rounds of the model, and what it says of FEATURES, by XGBoost itself."""
    return hosts.python(PREDICT, FEATURES)


@pytest.mark.parametrize(
    ("kind", "write"),
    [
        ("text/csv; label_size=1", csv),
        ("text/libsvm", libsvm),
        ("application/x-recordio-protobuf", recordio),
        ("recordio-protobuf", partial(recordio, sparse=True)),
    ],
)
def test_two_hosts_train_the_model_that_one_host_trains_on_all_data(cluster, kind, write):
    alone, both = cluster(1), cluster(2)
    validation = shards(VALIDATION, 2)
    assert alone.run(
        BINARY, lambda _: {"train": (kind, {"a": write(TRAIN)}), "validation": (kind, {"a": write(VALIDATION)})}
    ) == [0]
    codes = both.run(
        BINARY,
        lambda i: {"train": (kind, {"s/a": write(shards(TRAIN, 2)[i])}), "validation": (kind, {"v": write(validation[i])})},
    )
    assert codes == [0, 0], both.output() + both.output("algo-2")
    assert list(both.model("algo-2").iterdir()) == []
    assert [both.failure(host) for host in both.hosts] == [None, None]
    (rounds, one), (rounds_of_two, two) = (predictions(c) for c in (alone, both))
    assert rounds == rounds_of_two == 8
    # The split points come from sketches of the data, which are merged in another order.
    assert max(abs(a - b) for a, b in zip(one, two, strict=True)) < 0.1
    assert sum(abs(a - b) for a, b in zip(one, two, strict=True)) / len(one) < 0.01
    first, second = metrics(alone.output()), metrics(both.output())
    assert set(first) == set(second) == {"train-auc", "train-logloss", "validation-auc", "validation-logloss"}
    for name, values in first.items():
        assert len(values) == len(second[name]) == 8
        assert values[-1] == pytest.approx(second[name][-1], abs=0.01)
    assert second["validation-auc"][-1] > 0.9
    assert metrics(both.output("algo-2")) == {}


def test_a_host_without_data_takes_part(cluster):
    three = cluster(3)
    codes = three.run(
        BINARY,
        lambda i: {
            "train": ("text/csv", {} if i == 1 else {"t": csv(shards(TRAIN, 2)[i // 2])}),
            "validation": ("text/csv", {"v": csv(VALIDATION)} if i == 2 else {"v": ""}),
        },
    )
    assert codes == [0, 0, 0], "".join(map(three.output, three.hosts))
    assert metrics(three.output())["validation-auc"][-1] > 0.9


def test_the_first_host_without_data_saves_the_model(cluster):
    two = cluster(2)
    assert two.run(BINARY, lambda i: {"train": ("text/libsvm", {"t": libsvm(TRAIN)} if i else {})}) == [0, 0]
    assert predictions(two)[0] == 8


@pytest.mark.parametrize(
    ("extra", "label"),
    [
        (
            {"objective": "multi:softprob", "num_class": "3", "eval_metric": "mlogloss,merror"},
            lambda r: int(r[1] > 0) + int(r[2] > 0),
        ),
        ({"objective": "reg:squarederror", "eval_metric": "rmse"}, lambda r: 3 * r[1]),
        ({"objective": "count:poisson", "eval_metric": "poisson-nloglik"}, lambda r: int(abs(r[1]) * 3)),
        ({"objective": "survival:aft", "eval_metric": "aft-nloglik"}, lambda r: 3 ** r[1]),
    ],
)
def test_other_objectives_on_two_hosts_one_of_them_empty(cluster, extra, label):
    two = cluster(2)
    table = [[label(row), *row[1:]] for row in TRAIN]
    codes = two.run({**BINARY, **extra}, lambda i: {"train": ("text/csv", {"t": "" if i else csv(table)})})
    assert codes == [0, 0], two.output() + two.output("algo-2")
    for values in metrics(two.output()).values():
        assert values[-1] < values[0]


def test_ranking_takes_queries_in_any_order_and_files(cluster):
    """A query's number is its file's; a byte order mark is none of the data."""

    def ranked(table, query):
        return "\ufeff" + "".join(f"{row[0]} qid:{query(i // 20)} 0:{row[1]} 1:{row[2]}\n" for i, row in enumerate(table))

    found = []
    for files in (
        {"t": ranked(TRAIN, lambda group: group)},
        {"t": ranked(TRAIN[:300], lambda group: 14 - group), "u": ranked(TRAIN[300:], lambda group: group)},
    ):
        one = cluster(1)
        given = {"objective": "rank:ndcg", "num_round": "3"}
        assert one.run(given, lambda _, files=files: {"train": (None, files)}) == [0], one.output()
        found.append(metrics(one.output()))
    assert found[0] == found[1]
    assert min(map(len, found[0].values())) == 3


def test_weights_early_stopping_and_a_tuned_metric(cluster):
    weighted = [[row[0], 2.5, *row[1:]] for row in TRAIN]
    hyperparameters = {**BINARY, "csv_weights": "1", "num_round": "50", "early_stopping_rounds": "3"}
    # XGBoost logs the error before SageMaker's own mse, and by another name.
    hyperparameters |= {"eval_metric": "auc,mse", "_tuning_objective_metric": "validation:error@0.5", "sagemaker_region": "x"}
    validation = [[row[0], 1, *row[1:]] for row in VALIDATION]
    other = cluster(1)
    assert other.run(
        hyperparameters, lambda _: {"train": ("csv", {"t": csv(weighted)}), "validation": ("csv", {"v": csv(validation)})}
    ) == [0]
    found = metrics(other.output())
    errors = found["validation-error"]
    assert len(errors) == errors.index(min(errors)) + 4 < 50
    assert predictions(other)[0] == errors.index(min(errors)) + 1
    # Without validation data there is nothing to stop for.
    third = cluster(1)
    hyperparameters |= {"num_round": "20", "early_stopping_rounds": "1"}
    assert third.run(hyperparameters, lambda _: {"train": ("csv", {"t": csv(weighted)})}) == [0]
    assert predictions(third)[0] == 20


USER_ERRORS = {
    "no num_round": ({"num_round": None}, {}, "Missing required hyperparameter: num_round"),
    "unknown": ({"depth": "3"}, {}, "Extraneous hyperparameter found: depth"),
    "not a number": ({"eta": "fast"}, {}, "Hyperparameter eta: could not parse value: fast"),
    "out of range": ({"subsample": "0"}, {}, r"Hyperparameter subsample: 0 is not in \(0, 1\]"),
    "given twice": ({"learning_rate": "0.1"}, {}, "Hyperparameters eta and learning_rate are the same: give one of them"),
    "no classes": ({"objective": "multi:softmax"}, {}, "Require input for parameter 'num_class'"),
    "metric": ({"eval_metric": "auc,wrong"}, {}, "Hyperparameter eval_metric: auc,wrong is not in"),
    "no train": ({}, {"train": None}, "Missing required channel: train"),
    "type": ({}, {"train": ("image/png", {})}, "image/png is not an accepted ContentType"),
    "not parquet": (
        {},
        {"train": ("application/x-parquet", {"t": csv(TRAIN)})},
        "Failed to load parquet data of channel train",
    ),
    "not recordio": (
        {},
        {"train": ("application/x-recordio-protobuf", {"t": csv(TRAIN)})},
        r"Failed to load recordio-protobuf data of channel train \(t, record 1\): this is no RecordIO frame",
    ),
    "cut off": (
        {},
        {"train": ("application/x-recordio-protobuf", {"t": recordio(TRAIN)[:-9]})},
        f"record {len(TRAIN)}.*cut off",
    ),
    "index of recordio": (
        {},
        {"train": ("application/x-recordio-protobuf", {"t": recordio(TRAIN, sparse=True, first=2**63)})},
        r"\(t, record 1\): it has a feature 922337203685477\d+",
    ),
    "regression metric": ({"objective": "reg:gamma", "eval_metric": "accuracy"}, {}, "accuracy is of classification"),
    "header": ({}, {"train": ("text/csv", {"t": "label,age\n1,2\n"})}, "Failed to load csv data of channel train .*no header"),
    "decimal commas": (
        {},
        {"train": ("text/csv", {"t": "1,5;2\n"})},
        r"Failed to load csv data of channel train \(t\).*with ',' between them",
    ),
    "aligned": ({}, {"train": ("text/csv", {"t": "1  2\n1 20\n"})}, "Failed to load csv data of channel train .*with ','"),
    "ragged": ({}, {"train": ("text/csv", {"t": "1,2\n1,2,3\n"})}, "Failed to load csv data of channel train"),
    "short row": ({}, {"train": ("text/csv", {"t": "1,2\n1\n"})}, "Failed to load csv data of channel train .*same number"),
    "files differ": (
        {},
        {"train": ("text/csv", {"t": "1,2\n", "u": "1,2,3\n"})},
        "Feature size mismatch in channel train: u has 3",
    ),
    "csv as libsvm": (
        {},
        {"train": (None, {"t": "1,2,3\n"})},
        "Failed to load libsvm data of channel train .*line 1.*text/csv",
    ),
    "index": (
        {},
        {"train": (None, {"t": f"1 1:2\n0 {2**31}:2\n"})},
        "Failed to load libsvm data of channel train .*line 2",
    ),
    "no label": ({}, {"train": ("text/csv", {"t": "1,2\n,2\n"})}, "Channel train: 1 rows have no label"),
    "nothing": ({}, {"train": ("text/csv", {"t": ""})}, "No data in channel train"),
    "columns": ({}, {"validation": ("text/csv", {"t": "1,2\n"})}, "Feature size mismatch: .*6 in train, 1 in validation"),
    "labels": ({}, {"train": ("text/csv", {"t": "1,2\n7,2\n"})}, "label must be in"),
    "nan": (
        {"objective": "reg:squarederror", "eval_metric": "rmse"},
        {"train": ("text/csv", {"t": csv([[(-1) ** i * 3e38, *row[1:]] for i, row in enumerate(TRAIN)])})},
        "The training loss is not a finite number in round 0: train-rmse is (inf|nan)",
    ),
    "one class": (
        {"early_stopping_rounds": "5", "eval_metric": "auc"},
        {"validation": ("text/csv", {"v": csv([row for row in VALIDATION if row[0]])})},
        "Early stopping looks at validation-auc, which is nan in round 0. Give validation data",
    ),
    "groups": ({"objective": "rank:map", "eval_metric": "map"}, {}, "Channel train has no query groups"),
}


@pytest.mark.parametrize("case", USER_ERRORS)
def test_a_users_error_is_told(cluster, case):
    changes, channels, expected = USER_ERRORS[case]
    one = cluster(1)
    hyperparameters = {name: value for name, value in {**BINARY, **changes}.items() if value is not None}
    given = {name: value for name, value in {"train": ("text/csv", {"t": csv(TRAIN)}), **channels}.items() if value}
    assert one.run(hyperparameters, lambda _: given) == [1]
    assert re.search(expected, one.failure(), re.DOTALL), one.output()
    assert "Traceback" not in one.failure()
    assert list(one.model().iterdir()) == []


LINEAR = {"booster": "gblinear", "objective": "reg:squarederror", "num_round": "20", "eval_metric": "rmse"}


def test_a_linear_model_of_several_hosts_is_refused_where_each_has_rows_of_its_own(cluster):
    two = cluster(2)
    assert two.run(LINEAR, lambda i: {"train": ("csv", {"t": csv(shards(TRAIN, 2)[i])})}) == [1, 1]
    for host in two.hosts:
        assert re.search("booster: gblinear .*one instance.*FullyReplicated", two.failure(host)), two.output(host)


def test_a_linear_model_of_two_hosts_with_all_rows_is_that_of_one(cluster):
    one, two = cluster(1), cluster(2)
    assert one.run(LINEAR, lambda _: {"train": ("csv", {"t": csv(TRAIN)})}) == [0]
    for host in two.hosts:
        config = two.prepare(host, LINEAR, {"train": ("csv", {"t": csv(TRAIN)})}) / "input/config/inputdataconfig.json"
        config.write_text(config.read_text().replace("ShardedByS3Key", "FullyReplicated"))
    assert [process.wait() for process in [two.start(host) for host in two.hosts]] == [0, 0], two.output()
    assert predictions(two)[1] == pytest.approx(predictions(one)[1], abs=1e-3)
    assert metrics(two.output())["train-rmse"] == pytest.approx(metrics(one.output())["train-rmse"], abs=1e-3)


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        ("0,oops\n", "algo-2: Failed to load csv data"),
        ("0,1,2\n", "Feature size mismatch: .*6 in train on algo-1, 2 in train on algo-2"),
        (csv([[9, *row[1:]] for row in TRAIN]), "label must be in"),
    ],
)
@pytest.mark.parametrize("where", [0, 1])
def test_an_error_of_one_host_ends_all_and_is_told_by_all(cluster, bad, expected, where):
    two = cluster(2)
    codes = two.run(BINARY, lambda i: {"train": ("text/csv", {"t": bad if i == where else csv(TRAIN)})})
    assert codes == [1, 1], two.output() + two.output("algo-2")
    if where == 0:
        expected = expected.replace("algo-2: F", "algo-1: F").replace(
            "6 in train on algo-1, 2 in train on algo-2", "2 in train on algo-1, 6 in train on algo-2"
        )
    for host in two.hosts:
        assert re.search(expected, two.failure(host)), two.failure(host)


def endless(two):
    """Start a training that does not end by itself, and wait until it trains."""
    for i, host in enumerate(two.hosts):
        two.prepare(host, {**BINARY, "num_round": "1000000"}, {"train": ("text/csv", {"t": csv(shards(TRAIN, 2)[i])})})
    processes = [two.start(host) for host in two.hosts]
    while len(metrics(two.output()).get("train-auc", [])) < 3:
        assert [process.poll() for process in processes] == [None, None], two.output() + two.output("algo-2")
        time.sleep(0.05)
    return processes


@pytest.mark.parametrize("victim", [0, 1])
def test_the_death_of_a_host_ends_the_others_with_a_message(cluster, victim):
    two = cluster(2)
    processes = endless(two)
    processes[victim].kill()
    other = two.hosts[1 - victim]
    assert processes[1 - victim].wait() == 1
    assert two.failure(other) == f"{two.hosts[victim]} ended before training was complete", two.output(other)


def test_nothing_listens_but_on_the_hosts_addresses(cluster):
    two = cluster(2)
    endless(two)
    listed = subprocess.run(two.inside("algo-1", "ss", "-Hltn"), capture_output=True, text=True, check=True).stdout
    addresses = {line.split()[3] for line in listed.splitlines()}
    assert "10.213.0.1:9099" in addresses
    assert not {a for a in addresses if a.endswith((":9098", ":9099"))} - {"10.213.0.1:9099"}


def test_sigterm_ends_it_at_once_and_a_model_is_kept_where_it_was_asked_for(cluster):
    one = cluster(1)
    hyperparameters = {**BINARY, "num_round": "1000000", "save_model_on_termination": "true"}
    one.prepare("algo-1", hyperparameters, {"train": ("text/csv", {"t": csv(TRAIN)})})
    process = one.start("algo-1")
    while len(metrics(one.output()).get("train-auc", [])) < 3:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 128 + signal.SIGTERM
    assert predictions(one)[0] >= 3


def test_a_host_that_starts_late_is_waited_for(cluster):
    two = cluster(2)
    for i, host in enumerate(two.hosts):
        two.prepare(host, BINARY, {"train": ("text/csv", {"t": csv(shards(TRAIN, 2)[i])})})
    second = two.start("algo-2")
    time.sleep(2)
    first = two.start("algo-1")
    assert [first.wait(), second.wait()] == [0, 0], two.output() + two.output("algo-2")


READ = """
import json, sys
sys.path.insert(0, "/opt/program")
import contract, hyperparameters, records
parameters = hyperparameters.parse({"objective": "reg:squarederror", "num_round": "1"})
table = records.load(contract.channels()["train"], parameters)
print(json.dumps([[repr(float(value)) for value in [label, *row]] for label, row in zip(table.labels, table.features)]))
"""


def test_csv_is_read_whatever_it_looks_like(cluster):
    """Spaces, signs, quotes, a byte order mark, lines of Windows, what stands for a missing number, or for a comma, no end of a
    line."""
    one = cluster(1)
    wide = ["1", *(f"0.{i:06d}" for i in range(200_000))]
    texts = {
        "a": " 1, +2 ,.5\n\n2,-3e2,5.\n",
        "b": '\ufeff"3",inf,1e-50\r\n\r\n4,-Infinity,3.4028235e38\r\n',
        "c": "\n5,,NA\n6,nan,None\n7,null,<NA>",
        "d": "\n\r\n",
        "e": "8; -1;\r\n",
        "f": "9\t\t1\n",
        "g": "10|2|NA",
        "h": '11 "3" 4\r\n12 5 6\r\n',
    }
    one.prepare("algo-1", BINARY, {"train": ("text/csv", texts)})
    assert one.python(READ) == [
        ["1.0", "2.0", "0.5"],
        ["2.0", "-300.0", "5.0"],
        ["3.0", "inf", "0.0"],
        ["4.0", "-inf", "3.4028234663852886e+38"],
        ["5.0", "nan", "nan"],
        ["6.0", "nan", "nan"],
        ["7.0", "nan", "nan"],
        ["8.0", "-1.0", "nan"],
        ["9.0", "nan", "1.0"],
        ["10.0", "2.0", "nan"],
        ["11.0", "3.0", "4.0"],
        ["12.0", "5.0", "6.0"],
    ]
    other = cluster(1)
    # A row is longer than what is read at a time, and the first not the longest.
    rows = [",".join(wide), ",".join([*wide[:-1], "0.1234567890123456789"])]
    other.prepare("algo-1", BINARY, {"train": ("text/csv", {"t": "\n".join(rows)})})
    found = other.python(READ)
    assert [len(row) for row in found] == [200_001, 200_001]
    assert [float(row[-1]) for row in found] == pytest.approx([0.199999, 0.12345679])


PARQUET = """
import json, sys, pandas as pd
table, orders = json.load(sys.stdin)
frame = pd.DataFrame(table).rename(columns=str)
for file, (columns, first, last) in orders.items():
    frame.loc[first:last, columns].to_parquet(f"/opt/ml/input/data/{file}")
print(0)
"""
"""Writes rows of a table, the columns in any order."""
IN_ORDER, SWAPPED = ["0", "1", "2", "3", "4", "5", "6"], ["2", "1", "0", "3", "4", "5", "6"]


def test_parquet_gives_the_model_that_csv_gives(cluster):
    """Files of a channel are parts of a table, whose columns have names."""
    text, parquet = cluster(1), cluster(1)
    assert text.run(BINARY, lambda _: {"train": ("csv", {"t": csv(TRAIN)})}) == [0]
    parquet.prepare("algo-1", BINARY, {"train": ("parquet", {})})
    parquet.python(PARQUET, [TRAIN, {"train/a": [IN_ORDER, 0, 299], "train/b": [SWAPPED, 300, 599]}])
    assert parquet.start("algo-1").wait() == 0, parquet.output()
    assert predictions(text) == predictions(parquet)


def test_parquet_columns_that_do_not_fit_are_refused(cluster):
    """Label and feature would change places, and nothing show it."""
    two, one = cluster(2), cluster(1)
    given = {**BINARY, "objective": "reg:squarederror", "eval_metric": "rmse"}
    for host, columns in zip(two.hosts, (IN_ORDER, SWAPPED), strict=True):
        two.prepare(host, given, {"train": ("parquet", {})})
        two.python(PARQUET, [TRAIN, {"train/t": [columns, 0, 599]}], host)
    assert [process.wait() for process in [two.start(host) for host in two.hosts]] == [1, 1]
    expected = "Column 2 is number 3 in train on algo-1, but number 1 in train on algo-2: .* same order"
    assert re.search(expected, two.failure("algo-2")), two.output("algo-2")
    one.prepare("algo-1", given, {"train": ("parquet", {})})
    one.python(PARQUET, [TRAIN, {"train/a": [IN_ORDER[:-1], 0, 299], "train/b": [[*IN_ORDER[:-2], "6"], 300, 599]}])
    assert one.start("algo-1").wait() == 1
    assert one.failure() == "Feature size mismatch in channel train: b and an earlier file differ in columns: 5, 6"


def test_pipe_mode_reads_the_first_epochs_pipe(cluster):
    one = cluster(1)
    root = one.prepare("algo-1", BINARY, {"train": ("text/csv", {})})
    config = root / "input/config/inputdataconfig.json"
    config.write_text(config.read_text().replace('"File"', '"Pipe"'))
    os.mkfifo(root / "input/data/train_0")
    process = one.start("algo-1")
    (root / "input/data/train_0").write_text(csv(TRAIN))
    assert process.wait() == 0, one.output()
    assert "600 rows, 6 features" in one.output()


def test_metrics_that_xgboost_lacks_are_of_all_hosts(cluster):
    two = cluster(2)
    asked = {**BINARY, "eval_metric": "error,accuracy,f1,f1_binary,precision,recall,balanced_accuracy,mse"}
    validation = shards(VALIDATION, 2)
    codes = two.run(
        asked, lambda i: {"train": ("csv", {"t": csv(shards(TRAIN, 2)[i])}), "validation": ("csv", {"v": csv(validation[i])})}
    )
    assert codes == [0, 0], two.output()
    found = {name: values[-1] for name, values in metrics(two.output()).items()}
    labels, scores = [row[0] for row in VALIDATION], predictions(two)[1]
    said = [score > 0.5 for score in scores]
    assert found["validation-accuracy"] == pytest.approx(1 - found["validation-error"], abs=1e-4)
    for name, expected in {
        "f1": f1_score(labels, said, average="macro"),
        "f1_binary": f1_score(labels, said),
        "precision": precision_score(labels, said),
        "recall": recall_score(labels, said),
        "balanced_accuracy": balanced_accuracy_score(labels, said),
        "mse": mean_squared_error(labels, scores),
    }.items():
        assert found[f"validation-{name}"] == pytest.approx(expected, abs=1e-4)


def test_a_host_without_rows_finds_metrics_of_many_classes_with_the_others(cluster):
    two = cluster(2)
    table = [[int(row[1] > 0) + int(row[2] > 0), *row[1:]] for row in TRAIN]
    given = {"objective": "multi:softprob", "num_class": "3", "num_round": "4", "eval_metric": "accuracy,merror"}
    assert two.run(given, lambda i: {"train": ("csv", {} if i else {"t": csv(table)})}) == [0, 0], two.output()
    found = metrics(two.output())
    assert found["train-accuracy"] == pytest.approx([1 - error for error in found["train-merror"]], abs=1e-4)


def test_r2_of_labels_far_from_nought_is_of_all_hosts(cluster):
    """Labels of 1,000,000 ± 20, fewer and greater on the second host."""
    two = cluster(2)
    table = sorted([round(1e6 + 20 * row[1] + row[2], 1), *row[1:]] for row in TRAIN)
    given = {"objective": "reg:squarederror", "num_round": "5", "max_depth": "2", "base_score": "1e6", "eval_metric": "mse,r2"}
    assert two.run(given, lambda i: {"train": ("csv", {"t": csv(table[450:] if i else table[:450])})}) == [0, 0], two.output()
    labels, scores = [row[0] for row in table], two.python(PREDICT, [row[1:] for row in table])[1]
    found = metrics(two.output())
    assert found["train-r2"][-1] == pytest.approx(r2_score(labels, scores), abs=1e-3)
    assert found["train-mse"][-1] == pytest.approx(mean_squared_error(labels, scores), rel=1e-3)


def sites(count, seed):
    """Rows of label, weight and features of two sites, which say of themselves which they are; one has few positives."""
    source = random.Random(seed)
    made = []
    for place in (-2, 2):
        made.append([])
        for _ in range(count):
            row = [source.gauss(0, 1) for _ in range(4)]
            made[-1].append([int(row[0] + place + source.gauss(0, 2) > 0), source.choice([0.5, 1, 4]), *row, place])
    return made


EVALUATE = LOAD + (
    "t = np.array(json.load(sys.stdin), dtype='float32'); b.set_param([('eval_metric', m) for m in ('auc', 'aucpr')]);"
    "d = x.DMatrix(t[:, 2:], label=t[:, 0], weight=t[:, 1]); said = b.eval(d).split()[1:];"
    "print(json.dumps([len(set(b.predict(d))), {f.split('-')[1].split(':')[0]: float(f.split(':')[1]) for f in said}]))"
)


def test_areas_under_curves_are_of_all_hosts(cluster):
    """As XGBoost itself finds them of all rows: exactly where scores are few, and within 0.001."""
    two = cluster(2)
    asked = {**BINARY, "eval_metric": "logloss,aucpr,auc", "csv_weights": "1", "max_depth": "6", "num_round": "10"}
    train, validation = sites(8000, 1), sites(600, 2)
    codes = two.run(asked, lambda i: {"train": ("csv", {"t": csv(train[i])}), "validation": ("csv", {"v": csv(validation[i])})})
    assert codes == [0, 0], two.output()
    found = metrics(two.output())
    for name, rows, within in (("train", train, 1e-3), ("validation", validation, 2e-5)):
        different, expected = two.python(EVALUATE, rows[0] + rows[1])
        assert (different > 2 * 2048) == (name == "train")
        for metric, value in expected.items():
            assert found[f"{name}-{metric}"][-1] == pytest.approx(value, abs=within), (name, metric)


def test_a_class_on_each_host_is_no_single_class(cluster):
    two = cluster(2)
    train, validation = ([[row for row in table if row[0] == label] for label in (0, 1)] for table in (TRAIN, VALIDATION))
    asked = {**BINARY, "eval_metric": "auc", "num_round": "20", "early_stopping_rounds": "5"}
    codes = two.run(asked, lambda i: {"train": ("csv", {"t": csv(train[i])}), "validation": ("csv", {"v": csv(validation[i])})})
    assert codes == [0, 0], two.output()
    areas = metrics(two.output())["validation-auc"]
    assert min(areas) > 0.8
    assert predictions(two)[0] == areas.index(max(areas)) + 1


def test_training_goes_on_from_the_last_checkpoint_that_all_hosts_have(cluster):
    two, again = cluster(2), cluster(2)
    for hosts in (two, again):
        for host in hosts.hosts:
            (hosts.root / host / "checkpoints").mkdir(parents=True)
    for process in endless(two):
        process.kill()
    numbers = sorted(int(path.suffix[1:]) for path in (two.root / "algo-1/checkpoints").glob("xgboost-checkpoint.*"))
    assert 3 <= len(numbers) <= 6
    # As the platform restores them; one host has not got the last one.
    for host, restored in (("algo-1", numbers), ("algo-2", numbers[:-1])):
        for number in restored:
            shutil.copy(two.root / f"algo-1/checkpoints/xgboost-checkpoint.{number}", again.root / host / "checkpoints")
    last = numbers[-2]
    rounds = {**BINARY, "num_round": str(last + 4)}
    codes = again.run(rounds, lambda i: {"train": ("csv", {"t": csv(shards(TRAIN, 2)[i])})})
    assert codes == [0, 0], again.output()
    assert f"Resuming from the checkpoint of round {last}\n" in again.output()
    assert re.findall(r"\] \[(\d+)\]\t", again.output()) == [str(last + n) for n in (1, 2, 3)]
    assert predictions(again)[0] == last + 4


STOPPED = """
import contextlib, io, json, pathlib, re, sys, tempfile
sys.path.insert(0, "/opt/program")
import hyperparameters, numpy as np, train, xgboost
from records import Records
asked, *tables = json.load(sys.stdin)
data = [Records("dense", table[:, 1:], table[:, 0]) for table in (np.array(table, "float32") for table in tables)]

def run(start=None, **changes):
    train.CHECKPOINTS = pathlib.Path(tempfile.mkdtemp())
    parameters = hyperparameters.parse({name: value for name, value in {**asked, **changes}.items() if value})
    with contextlib.redirect_stdout(io.StringIO()) as said:
        model = train._boost(parameters, *data, start, leader=True)
    rounds = len(re.findall(r"\\] \\[\\d+\\]\\t", said.getvalue()))
    scores = model.predict(xgboost.DMatrix(data[1].features)).tolist()
    return rounds, model.num_boosted_rounds(), scores, train._latest_checkpoint(None)

whole = run()
early = run(num_round=str(whole[1] + 4))[-1]
plain = run(num_round="5", early_stopping_rounds=None)[-1]
runs = [whole, run(early), run(early, eval_metric="error"), run(plain, num_round="5")]
print(json.dumps([found[:3] for found in runs]))
"""


def test_early_stopping_goes_on_from_a_checkpoints_best_round(roots, tmp_path):
    """Interrupted four rounds after the best one, it ends as if it had not been. Another metric has another best round."""
    asked = {**BINARY, "eval_metric": "logloss", "num_round": "60", "max_depth": "6", "early_stopping_rounds": "10"}
    whole, resumed, other, plain = roots("xgboost").python(tmp_path / "stopped", STOPPED, [asked, TRAIN[:60], VALIDATION])
    rounds, kept, scores = whole
    assert rounds == kept + 10 < 60
    assert resumed == [6, kept, scores]
    assert other[1] > kept + 4
    assert plain[:2] == [0, 5]


WORDS = """
import json, sys
sys.path.insert(0, "/opt/program")
import train, xgboost
print(json.dumps([train._words(xgboost.core.XGBoostError(said)) for said in json.load(sys.stdin)]))
"""


def test_what_xgboost_says_is_kept_where_it_says_nothing_but_what_it_checks(roots, tmp_path):
    place = "[10:00:00] /workspace/src/data/data.cc:1: "
    said = [
        f"{place}Check failed: a == b (0 vs. 6) : Sizes differ.\nStack trace:\n  0x1",
        f"{place}Check failed: a == b (0 vs. 6) : ",
    ]
    told = roots("xgboost").python(tmp_path / "words", WORDS, said)
    assert told == ["Sizes differ.", "Check failed: a == b (0 vs. 6) :"]


def test_feature_importance_is_in_the_output(cluster):
    one = cluster(1)
    assert one.run(BINARY, lambda _: {"train": ("csv", {"t": csv(TRAIN)})}) == [0]
    importance = json.loads((one.root / "algo-1/output/data/feature_importance.json").read_text())
    assert set(importance) == {"weight", "gain", "cover", "total_gain", "total_cover"}
    assert sorted(importance["total_gain"], key=importance["total_gain"].get)[-2:] == ["f1", "f0"]


def test_the_model_is_the_one_that_xgboost_itself_trains(cluster):
    one = cluster(1)
    given = {name: value for name, value in BINARY.items() if name != "eta"}
    given |= {"learning_rate": "0.3", "min_split_loss": "0.5", "reg_lambda": "2", "reg_alpha": "0.1"}
    assert one.run(given, lambda _: {"train": ("csv", {"t": csv(TRAIN)})}) == [0]
    train = (
        "import json, sys, numpy as np, xgboost as x; t, v = map(np.array, json.load(sys.stdin));"
        "p = dict(objective='binary:logistic', max_depth=3, eta=0.3, gamma=0.5, tree_method='hist', seed=7);"
        "p |= {'lambda': 2, 'alpha': 0.1};"
        "b = x.train(p, x.DMatrix(t[:, 1:].astype('float32'), t[:, 0]), 8);"
        "print(json.dumps(b.predict(x.DMatrix(v)).tolist()))"
    )
    assert one.python(train, [TRAIN, FEATURES]) == pytest.approx(predictions(one)[1], abs=1e-6)


SCRIPT = """
import argparse, json, os, socket, numpy, xgboost
from xgboost import collective
from xgboost.tracker import RabitTracker

parser = argparse.ArgumentParser()
parser.add_argument("--rounds", type=int)
rounds = parser.parse_args().rounds
hosts, host = json.loads(os.environ["SM_HOSTS"]), os.environ["SM_CURRENT_HOST"]
table = numpy.loadtxt(os.path.join(os.environ["SM_CHANNEL_TRAIN"], "t"), "float32", delimiter=",")
if host == hosts[0]:
    tracker = RabitTracker(len(hosts), host_ip=socket.gethostbyname(hosts[0]), port=9099)
    tracker.start()
with collective.CommunicatorContext(dmlc_tracker_uri=socket.gethostbyname(hosts[0]), dmlc_tracker_port=9099):
    data = xgboost.DMatrix(table[:, 1:], table[:, 0])
    booster = xgboost.train({"objective": "binary:logistic"}, data, rounds)
    if collective.get_rank() == 0:
        booster.save_model(os.environ["SM_MODEL_DIR"] + "/xgboost-model.ubj")
# In one write, since the interpreter is unbuffered: the toolkit takes for a line what one read of its pipe gives.
print(f"trained on {collective.get_world_size()} hosts with {data.num_row()} rows")
"""


def halves(i):
    return {"train": ("text/csv", {"t": csv(shards(TRAIN, 2)[i])})}


def test_a_script_of_the_users_own_trains_on_two_hosts(cluster):
    two = cluster(2)
    assert two.run_script(SCRIPT, halves) == [0, 0], two.output() + two.output("algo-2")
    assert "hosts with 300 rows" in two.output("algo-2")
    assert sum((two.model(host) / "xgboost-model.ubj").exists() for host in two.hosts) == 1


def test_a_scripts_error_is_told(cluster):
    two = cluster(2)
    # The toolkit takes for a line what one read of its pipe gives, and an unbuffered interpreter writes lines in pieces.
    whole_lines = "import sys\nsys.stderr.reconfigure(line_buffering=True, write_through=False)\n"
    assert two.run_script(f"{whole_lines}raise ValueError('no such column')\n", halves) == [1, 1]
    assert "ValueError: no such column" in two.failure(), two.failure()


SAGEMAKERS = """
import json, os, pickle, sys, xgboost
import sagemaker_xgboost_container.encoder as encoders
from sagemaker_containers import entry_point
from sagemaker_containers.beta.framework import content_types
from sagemaker_xgboost_container import distributed
from sagemaker_xgboost_container.data_utils import get_dmatrix

def boost(params, data, directory, is_master):
    booster = xgboost.train(params, data, 4, evals=[(data, "train")])
    if is_master:
        with open(directory + "/xgboost-model", "wb") as file:
            pickle.dump(booster, file)
    print(f"trained with {data.num_row()} rows, {is_master}")

hosts, host = json.loads(os.environ["SM_HOSTS"]), os.environ["SM_CURRENT_HOST"]
assert not any("/opt/program" == place for place in sys.path), sys.path
assert encoders.decode(b"1,,3", content_types.CSV).num_col() == 3
entry_point._wait_hostname_resolution()
data = get_dmatrix(os.environ["SM_CHANNEL_TRAIN"], KIND)
distributed.rabit_run(
    exec_fun=boost,
    args={"params": PARAMETERS, "data": data, "directory": os.environ["SM_MODEL_DIR"]},
    include_in_training=data is not None,
    hosts=hosts,
    current_host=host,
    update_rabit_args=True,
)
"""
UNPICKLE = (
    "import json, pickle, sys, numpy as np, xgboost as x; b = pickle.load(open('/opt/ml/model/xgboost-model', 'rb'));"
    "print(json.dumps([b.num_boosted_rounds(), b.predict(x.DMatrix(np.array(json.load(sys.stdin)))).tolist()]))"
)


@pytest.mark.parametrize(("kind", "write"), [("csv", csv), ("libsvm", libsvm)])
def test_a_script_for_sagemakers_own_container_trains_on_all_hosts_that_have_data(cluster, kind, write):
    parameters = {"objective": "binary:logistic", "max_depth": 3, "tree_method": "hist"}
    script = SAGEMAKERS.replace("KIND", repr(kind)).replace("PARAMETERS", repr(parameters))
    parts = {1: shards(TRAIN, 2)[0], 2: shards(TRAIN, 2)[1]}
    three, alone = cluster(3), cluster(1)
    files = {i: {"a/t": write(part), "_SUCCESS": "", "u": ""} for i, part in parts.items()}
    codes = three.run_script(script, lambda i: {"train": (kind, files.get(i, {}))})
    assert codes == [0, 0, 0], "".join(map(three.output, three.hosts))
    assert "Host algo-1 not being used" in three.output()
    for host, first in (("algo-2", True), ("algo-3", False)):
        assert f"trained with 300 rows, {first}" in three.output(host)
    assert alone.run_script(script, lambda _: {"train": (kind, {"t": write(TRAIN)})}) == [0], alone.output()
    (rounds, two), (_, one) = (hosts.python(UNPICKLE, FEATURES, host) for hosts, host in ((three, "algo-2"), (alone, "algo-1")))
    assert rounds == 4
    # The split points come from sketches of the data, which are merged in another order.
    assert sum(abs(a - b) for a, b in zip(one, two, strict=True)) / len(one) < 0.01


CHECKPOINTED = """
import argparse, os, xgboost
from sagemaker_xgboost_container import checkpointing
from sagemaker_xgboost_container.data_utils import get_dmatrix

parser = argparse.ArgumentParser()
parser.add_argument("--rounds", type=int)
data = get_dmatrix(os.environ["SM_CHANNEL_TRAIN"], "text/csv; label_size=1", csv_weights=1)
assert data.num_col() == 5 and len(data.get_weight()) == data.num_row()
given = dict(params={"objective": "binary:logistic"}, dtrain=data, evals=[(data, "train")])
booster = checkpointing.train({**given, "num_boost_round": parser.parse_args().rounds}, "/opt/ml/checkpoints")
print(f"the model has {booster.num_boosted_rounds()} rounds")
"""


def test_a_script_goes_on_from_sagemakers_own_checkpoints(cluster):
    one = cluster(1)
    weighted = [[row[0], 1 + abs(row[1]), *row[2:]] for row in TRAIN]
    kept = one.root / "algo-1/checkpoints"

    def run(rounds):
        assert one.run_script(CHECKPOINTED, lambda _: {"train": (None, {"t": csv(weighted)})}, rounds) == [0], one.output()
        assert f"the model has {rounds} rounds" in one.output()
        return re.findall(r"^\[(\d+)\]\ttrain-logloss:0\.", one.output(), re.MULTILINE)

    assert run("7") == [str(n) for n in range(7)]
    assert sorted(path.name for path in kept.iterdir()) == [f"xgboost-checkpoint.{n}" for n in range(2, 7)]
    # Cut short, as by a kill of the host.
    (kept / "xgboost-checkpoint.6").write_bytes(b"{")
    assert run("9") == ["6", "7", "8"]
    assert "Resuming from the checkpoint of round 5" in one.output()
