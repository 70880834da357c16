import pytest

SCRIPT = """
import argparse, flask, json, os, joblib, pandas, sagemaker_containers
from sagemaker_containers.beta.framework import content_types, encoders, env, modules, server, transformer, worker
from sagemaker_inference.encoder import encode
from sklearn.ensemble import RandomForestClassifier

parser = argparse.ArgumentParser()
parser.add_argument("--rounds", type=int)
table = pandas.read_csv(os.path.join(os.environ["SM_CHANNEL_TRAIN"], "t"), header=None)
model = RandomForestClassifier(parser.parse_args().rounds, random_state=0).fit(table[[1, 2]], table[0])
joblib.dump(model, os.environ["SM_MODEL_DIR"] + "/model.joblib")
print(f"accuracy={model.score(table[[1, 2]], table[0])}")
assert sagemaker_containers.training_env().current_host == env.Environment().current_host == "algo-1"

def model_fn(directory):
    return joblib.load(directory + "/model.joblib")

def output_fn(prediction, accept):
    return worker.Response(encoders.encode(prediction, accept), accept, mimetype=accept)

answer = output_fn(model.predict(table[[1, 2]][:2]), content_types.CSV)
assert (answer.get_data(), answer.mimetype) == (b"0\\n1\\n", "text/csv"), answer.get_data()
assert worker.Response("[]").mimetype == content_types.JSON
assert flask.Response(encode([[1, 2]], "text/csv"), mimetype="text/csv").get_data() == b"1,2\\n"
"""


@pytest.fixture
def algorithm():
    return "scikit-learn"


def test_a_script_trains_with_scikit_learn(cluster):
    """It is its model's server as well, as those of SageMaker's inference pipelines are."""
    one = cluster(1)
    rows = "".join(f"{i % 2},{i % 2 + 0.01 * i},{i}\n" for i in range(50))
    assert one.run_script(SCRIPT, lambda _: {"train": ("text/csv", {"t": rows})}, "7") == [0], one.output()
    assert "accuracy=1.0" in one.output()
    load = "import json, joblib; print(json.dumps(len(joblib.load('/opt/ml/model/model.joblib').estimators_)))"
    assert one.python(load) == 7


def test_without_a_script_it_says_what_it_needs(cluster):
    one = cluster(1)
    assert one.run({}, lambda _: {"train": ("text/csv", {"t": "1,2\n"})}) == [1]
    assert "SKLearn(entry_point=" in one.failure()
