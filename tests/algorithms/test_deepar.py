import base64
import gzip
import json
import re

import pytest

MONTHLY = {"time_freq": "M", "prediction_length": "6", "context_length": "12", "epochs": "2", "mini_batch_size": "16"}

LOADER = """
import sys
from pathlib import Path
from gluonts.model.predictor import Predictor
sys.path.insert(0, path)
predictor = Predictor.deserialize(Path(path))
"""
"""As docs/algorithms.md has it."""
SEVERAL = f"""
import base64, io, json, logging, pathlib, sys, tempfile
sys.path.insert(0, "/opt/program")
import contract, pandas, train
done = []
for hyperparameters, channels in json.load(sys.stdin):
    root = contract.ROOT = pathlib.Path(tempfile.mkdtemp())
    train.MODEL = root / "model"
    for name, (kind, files) in channels.items():
        for file, content in files.items():
            (root / "input/data" / name).mkdir(parents=True, exist_ok=True)
            content = base64.b64decode(content)
            if file.endswith(".parquet"):
                content = pandas.DataFrame(map(json.loads, content.splitlines())).to_parquet()
            (root / "input/data" / name / file).write_bytes(content)
    (root / "input/config").mkdir(parents=True)
    configuration = {{name: {{"ContentType": kind}} for name, (kind, _) in channels.items()}}
    (root / "input/config/inputdataconfig.json").write_text(json.dumps(configuration))
    log = io.StringIO()
    logging.basicConfig(stream=log, level=logging.INFO, format="%(message)s", force=True)
    result = {{"error": None}}
    try:
        parameters = train.read(hyperparameters)
        train.train(parameters, contract.Resources("algo-1", ("algo-1",), "eth0"), None)
        series = train.load(contract.channels()["train"], parameters)
        path = str(train.MODEL)
        {LOADER.strip().replace(chr(10), chr(10) + "        ")}
        horizon = parameters.prediction_length
        entries = [each.entry(-horizon) for each in series]
        result["forecasts"] = [each.samples.tolist() for each in predictor.predict(entries, num_samples=20)]
    except contract.UserError as error:
        result["error"] = str(error)
    done.append({{**result, "output": log.getvalue()}})
print(json.dumps(done))
"""
"""Runs of the program on one host, in one process: most of a short run's time is the start of PyTorch and its libraries."""


@pytest.fixture
def algorithm():
    return "deepar"


def series(count=3, points=120, value=lambda i, t: (t % 12) + i, **more):
    """Records with a season of twelve points."""
    return [
        {
            "start": f"{1950 + i}-01-01 00:00:00",
            "target": [value(i, t) for t in range(points)],
            **{name: make(i, points) for name, make in more.items()},
        }
        for i in range(count)
    ]


def lines(records):
    return "".join(json.dumps(each) + "\n" for each in records).encode()


def several(roots, tmp_path, runs):
    """What becomes of each of `runs`: hyperparameters, and {channel: (content type, {file: JSON Lines})}, kept as Parquet
    where the file's name says so."""
    cases = [
        [
            {name: value for name, value in {**MONTHLY, **given}.items() if value is not None},
            {
                name: (kind, {file: base64.b64encode(content).decode() for file, content in files.items()})
                for name, (kind, files) in channels.items()
            },
        ]
        for given, channels in runs
    ]
    place = tmp_path / "several"
    place.mkdir()
    return roots("deepar").python(place, SEVERAL, cases)


FEATURES = {
    "cat": lambda i, _: [i % 2, i],
    "dynamic_feat": lambda i, points: [[float(t % 3) for t in range(points)], [float(t) for t in range(points)]],
}
LIKELIHOODS = {
    "gaussian": ("D", lambda i, t: None if t % 50 == 7 else (t % 12) - 6 + i / 2),
    "beta": ("H", lambda i, t: (t % 12) / 11),
    "negative-binomial": ("5min", lambda i, t: t % 12),
    "student-T": ("W", lambda i, t: "NaN" if t % 50 == 7 else 10.0 * (t % 12)),
    "deterministic-L1": ("M", lambda i, t: (t % 12) + 0.5),
}


def test_likelihoods_frequencies_and_formats(roots, tmp_path):
    runs = []
    for number, (likelihood, (frequency, value)) in enumerate(LIKELIHOODS.items()):
        records = series(value=value, **(FEATURES if number % 2 else {}))
        kind, files = [
            ("jsonlines", {"a.json": lines(records[:1]), "b.json": lines(records[1:])}),
            ("application/x-parquet", {"a.parquet": lines(records)}),
            (None, {"a.json.gz": gzip.compress(lines(records))}),
        ][number % 3]
        given = {"likelihood": likelihood, "time_freq": frequency, "test_quantiles": "[0.25, 0.5]"}
        runs.append((given, dict.fromkeys(("train", "test"), (kind, files))))
    ignored = {"cardinality": "ignore", "num_dynamic_feat": "ignore", "early_stopping_patience": "1", "epochs": "9"}
    unknown = ("json", {"a.json": lines(series(value=lambda i, t: None if t >= 114 else t % 12, **FEATURES))})
    constant = ("json", {"a.json": lines(series(value=lambda i, t: 1.0, **FEATURES))})
    runs.append(({**ignored, "learning_rate": "1e-12"}, {"train": constant, "test": unknown}))
    done = several(roots, tmp_path, runs)
    for (given, _), each in zip(runs, done, strict=True):
        assert each["error"] is None, given
        assert [(len(samples), len(samples[0])) for samples in each["forecasts"]] == [(20, 6)] * 3, given
        assert re.search(r"#quality_metric: host=algo-1, train final_loss <loss>=-?\d", each["output"]), given
        assert re.search(r"train throughput=\d", each["output"]), given
    outputs = [each["output"] for each in done]
    for output in outputs[:-1]:
        scores = re.findall(r"#test_score \(algo-1, (\S+)\): (\S+)", output)
        assert [name for name, _ in scores] == [
            *("RMSE", "mean_absolute_QuantileLoss", "mean_wQuantileLoss", "wQuantileLoss[0.25]", "wQuantileLoss[0.5]")
        ]
        values = [float(value) for _, value in scores]
        assert values[2] == pytest.approx((values[3] + values[4]) / 2)
    assert "cardinality [2, 3], 2 dynamic features" in outputs[1]
    assert "cardinality [], 0 dynamic features" in outputs[0]
    beta, negative_binomial, deterministic = (done[number]["forecasts"] for number in (1, 2, 4))
    assert all(0 <= value <= 1 for samples in beta for path in samples for value in path)
    assert all(value >= 0 and value == int(value) for samples in negative_binomial for path in samples for value in path)
    # A point forecast: all samples are the same.
    assert all(len(set(map(tuple, samples))) == 1 for samples in deterministic)
    assert "cardinality [], 0 dynamic features" in outputs[-1]
    assert "the last 6 values of all series are missing: there are no scores" in outputs[-1]
    assert "test RMSE" not in outputs[-1]


GOOD = ("jsonlines", {"t.json": lines(series())})
USER_ERRORS = {
    "no frequency": ({"time_freq": None}, {}, "Missing required hyperparameter: time_freq"),
    "frequency": ({"time_freq": "Y"}, {}, r"time_freq: Y is not in \[M, W, D, H, min\] and their multiples"),
    "likelihood": ({"likelihood": "poisson"}, {}, r"likelihood: poisson is not in \[gaussian, beta, negative-binomial, "),
    "range": ({"dropout_rate": "1"}, {}, r"Hyperparameter dropout_rate: 1 is not in \[0, 1\)"),
    "quantile": ({"test_quantiles": "[0.5, 1.5]"}, {}, r"Hyperparameter test_quantiles: .* is not in \(0, 1\)"),
    "no quantile": ({"test_quantiles": "[]"}, {}, r"test_quantiles: \[\] is not in arrays of one or more quantiles"),
    "unknown": ({"depth": "3"}, {}, "Extraneous hyperparameter found: depth"),
    "no train": ({}, {"train": None}, "Missing required channel: train"),
    "empty": ({}, {"train": ("json", {"t.json": b""})}, "No data in channel train"),
    "empty test": ({}, {"test": ("json", {"t.json": b"\n"})}, "No data in channel test"),
    "no json": ({}, {"train": ("json", {"t.json": b"1,2,3\n"})}, r"channel train \(t.json, record 1\): Extra data"),
    "no gzip": ({}, {"train": ("json.gz", {"t.gz": gzip.compress(lines(series()))[:99]})}, "Compressed file ended before"),
    "no target": ({}, {"train": ("json", {"t.json": b'{"start": "2020-01-01"}\n'})}, "it has no field 'target'"),
    "start": ({}, {"train": ("json", {"t.json": b'{"start": "soon", "target": [1]}\n'})}, r"\(t.json, record 1\).*soon"),
    "number": ({}, {"train": ("json", {"t.json": b'{"start": 5, "target": [1]}\n'})}, "start must be a date and time"),
    "large": ({}, {"train": ("json", {"t.json": b'{"start": "2020-01-01", "target": [1%s]}\n' % (b"0" * 400)})}, "record 1"),
    "text": ({}, {"train": ("json", {"t.json": b'{"start": "2020-01-01", "target": ["a"]}\n'})}, "could not convert"),
    "kind": ({}, {"train": ("text/csv", {"t": b"1\n"})}, "text/csv is not an accepted ContentType"),
    "suffix": ({}, {"train": (None, {"t.csv": b"1\n"})}, "t.csv ends with none of .json, .json.gz and .parquet"),
    "few": ({}, {"train": ("json", {"t.json": lines(series(2, 30))})}, "have fewer than 300 points"),
    "short": (
        {},
        {"test": ("json", {"t.json": lines(series(1, 6))})},
        r"a series has 6 points; more than .* \(6\)",
    ),
    "too short": ({"prediction_length": "200"}, {}, r"no series has prediction_length \(200\) points"),
    "ragged": (
        {},
        {"train": ("json", {"t.json": lines(series(dynamic_feat=lambda i, points: [[1.0] * (points - i)]))})},
        r"\(t.json, record 2\): dynamic_feat has 119 values, the target 120",
    ),
    "uneven": (
        {},
        {"train": ("json", {"t.json": lines(series() + series(1, cat=lambda i, _: [0]))})},
        "All time series must have as many cat as the others, but some have 0, some 1",
    ),
    "cardinality": (
        {"cardinality": "[2]"},
        {"train": ("json", {"t.json": lines(series(cat=lambda i, _: [i]))})},
        "Channel train: cat 2 is not below its cardinality 2",
    ),
    "unknown category": (
        {},
        {
            "train": ("json", {"t.json": lines(series(cat=lambda i, _: [i]))}),
            "test": ("json", {"t.json": lines(series(4, cat=lambda i, _: [i]))}),
        },
        "Channel test: cat 0 is 3 in a series, which channel train does not know",
    ),
    "features": ({"num_dynamic_feat": "2"}, {}, "num_dynamic_feat is 2, but the series have 0 dynamic_feat"),
    "counts": (
        {"likelihood": "negative-binomial"},
        {"train": ("json", {"t.json": lines(series(value=lambda i, t: t / 2))})},
        "likelihood negative-binomial takes counts",
    ),
    "shares": ({"likelihood": "beta"}, {}, "likelihood beta takes targets from 0 to 1"),
    "nan": ({"learning_rate": "1e30"}, {}, "The training loss is not a finite number in epoch [01]: reduce learning_rate"),
}


def test_users_errors_are_told(roots, tmp_path):
    runs = []
    for given, channels, _ in USER_ERRORS.values():
        made = {name: channel for name, channel in {"train": GOOD, **channels}.items() if channel}
        runs.append((given, made))
    done = several(roots, tmp_path, runs)
    for (name, (_, _, expected)), each in zip(USER_ERRORS.items(), done, strict=True):
        assert re.search(expected, each["error"] or "", re.DOTALL), (name, each["error"])


def test_the_death_of_a_host_ends_the_others_with_a_message(cluster):
    two = cluster(2)
    for host in two.hosts:
        two.prepare(host, {**MONTHLY, "epochs": "1000000"}, {"train": GOOD})
    first, second = (two.start(host) for host in two.hosts)
    while "epoch=1," not in two.output():
        assert first.poll() is None, two.output()
    second.kill()
    assert first.wait() == 1
    assert two.failure() == "algo-2 ended before training was complete"
    assert list(two.model().iterdir()) == []
