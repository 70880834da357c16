import re

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


@pytest.mark.parametrize("tag", ["2.3.0-cpu-py311", "1.13.1-gpu-py39", "2.6.0-gpu-py312-cu126-ubuntu22.04-sagemaker"])
def test_framework_images_are_matched_whatever_their_version(tag):
    uri = f"763104351884.dkr.ecr.us-west-2.amazonaws.com/pytorch-training:{tag}"
    assert catalog.find(uri).name == "pytorch"


def test_scikit_learn_is_found_by_its_own_repository():
    assert (
        catalog.find("246618743249.dkr.ecr.us-west-2.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3").name == "scikit-learn"
    )


@pytest.mark.parametrize("context", {context for algorithm in catalog.ALGORITHMS for context in algorithm.contexts})
def test_contexts_are_complete_and_pinned(context):
    assert (context / "Containerfile").is_file()
    for file in context.glob("*s.txt"):
        for line in file.read_text().split():
            assert "==" in line


def test_torch_is_the_one_for_cpus():
    """PyPI's cannot be imported without NVIDIA's libraries, which the images do not have."""
    (place,) = {context for algorithm in catalog.ALGORITHMS for context in algorithm.contexts if context.parent.name == "torch"}
    assert any(re.fullmatch(r"torch==[0-9.]+\+cpu", line) for line in (place / "requirements.txt").read_text().split())


def test_images_share_layers_and_a_program_is_one_of_its_own():
    contexts = {algorithm.name: algorithm.contexts for algorithm in catalog.ALGORITHMS}
    assert contexts["linear-learner"][0] == contexts["deepar"][0] == contexts["pytorch"][0]
    assert contexts["xgboost"][0] == contexts["pytorch"][1]
    for name in ("xgboost", "linear-learner", "deepar"):
        assert not (contexts[name][-1] / "requirements.txt").exists()


def test_a_hyperparameter_is_searched_alike_by_each_of_its_names():
    ranges = catalog.find("xgboost").ranges
    for alias, name in {
        "learning_rate": "eta",
        "min_split_loss": "gamma",
        "reg_alpha": "alpha",
        "reg_lambda": "lambda",
    }.items():
        assert ranges[alias] == ranges[name]


def test_metrics_are_found_in_the_programs_lines():
    algorithm = catalog.find("xgboost")
    line = "[12:34:56] [13]\ttrain-auc:0.99123\ttrain-error@0.7:1e-05\tvalidation-auc:0.98765\tvalidation-merror:0.5"
    assert sorted(Definitions(algorithm.metrics).scan([(5, line)])) == [
        ("train:auc", 0.99123, 5),
        ("train:error", 1e-05, 5),
        ("validation:auc", 0.98765, 5),
        ("validation:merror", 0.5, 5),
    ]


def test_the_linear_learners_metrics_are_found_in_its_lines():
    algorithm = catalog.find("linear-learner")
    lines = """\
#quality_metric: host=algo-1, epoch=3, train mse_objective <loss>=0.5
#quality_metric: host=algo-1, epoch=3, validation mse_objective <loss>=0.6
#quality_metric: host=algo-1, validation binary_f_1.000 <score>=0.9
#quality_metric: host=algo-1, test multiclass_top_k_accuracy_3 <score>=0.8
#quality_metric: host=algo-1, test binary_classification_cross_entropy_objective <loss>=0.2
#throughput_metric: host=algo-1, train throughput=123.4 records/second
#progress_metric: host=algo-1, completed 26 % of epochs"""
    stamped = [(5, f"[11/28/2026 11:15:41 INFO 17] {line}") for line in lines.splitlines()]
    assert sorted(Definitions(algorithm.metrics).scan(stamped)) == [
        ("test:multiclass_top_k_accuracy", 0.8, 5),
        ("test:objective_loss", 0.2, 5),
        ("train:objective_loss", 0.5, 5),
        ("train:progress", 26.0, 5),
        ("train:throughput", 123.4, 5),
        ("validation:binary_f_beta", 0.9, 5),
        ("validation:objective_loss", 0.6, 5),
    ]
