import pytest

from phalanx.algorithms import catalog
from phalanx.data.metrics import Definitions

DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    "uri",
    [
        "246618743249.dkr.ecr.us-west-2.amazonaws.com/sagemaker-xgboost:1.7-1",
        f"246618743249.dkr.ecr.us-west-2.amazonaws.com/sagemaker-xgboost@{DIGEST}",
        f"registry:5000/team/xgboost:latest@{DIGEST}",
        "433757028032.dkr.ecr.us-west-2.amazonaws.com/xgboost:1",
        "xgboost",
    ],
)
def test_the_repository_alone_decides(uri):
    assert catalog.find(uri).name == "xgboost"


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "/",
        "a/",
        "xgboost/other:1",
        "my-xgboost:1",
        "a/XGBoost",
        "a/xgboost:",
        "a/xgboost:-1",
        "a/xgboost@sha256:12",
        "a/xgboost:1 ",
        "a/xgboost\n",
        "a b/xgboost",
        "x/" * 200 + "xgboost",
    ],
)
def test_other_and_malformed_uris_mean_nothing(uri):
    assert catalog.find(uri) is None


def test_the_context_is_complete():
    context = catalog.find("xgboost").context
    assert (context / "train.py").is_file()
    for line in (context / "requirements.txt").read_text().split():
        assert "==" in line


def test_metrics_are_found_in_the_programs_lines():
    algorithm = catalog.find("xgboost")
    line = "[12:34:56] [13]\ttrain-auc:0.99123\ttrain-error@0.7:1e-05\tvalidation-auc:0.98765\tvalidation-merror:0.5"
    assert sorted(Definitions(algorithm.metrics).scan([(5, line)])) == [
        ("train:auc", 0.99123, 5),
        ("train:error", 1e-05, 5),
        ("validation:auc", 0.98765, 5),
        ("validation:merror", 0.5, 5),
    ]
