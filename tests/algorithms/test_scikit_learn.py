import pytest

SCRIPT = """
import argparse, json, os, joblib, pandas
from sklearn.ensemble import RandomForestClassifier

parser = argparse.ArgumentParser()
parser.add_argument("--rounds", type=int)
table = pandas.read_csv(os.path.join(os.environ["SM_CHANNEL_TRAIN"], "t"), header=None)
model = RandomForestClassifier(parser.parse_args().rounds, random_state=0).fit(table[[1, 2]], table[0])
joblib.dump(model, os.environ["SM_MODEL_DIR"] + "/model.joblib")
print(f"accuracy={model.score(table[[1, 2]], table[0])}")

def model_fn(directory):
    return joblib.load(directory + "/model.joblib")
"""


@pytest.fixture
def algorithm():
    return "scikit-learn"


def test_a_script_trains_with_scikit_learn(cluster):
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
