"""Tuning jobs as each client drives them: every strategy, each with two encrypted instances per training job on real data."""

import io
import json

import numpy
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

from e2e.conftest import ESP, IMAGE, ROLE, UDP_500, channel, running, wait_for
from e2e.programs import SDK_V2, SDK_V3, started

PROGRAMS = {"tuning_v2": SDK_V2, "tuning_v3": SDK_V3}
OBJECTIVE = {"Type": "Minimize", "MetricName": "validation:logloss"}


def upload(service):
    """The breast cancer data: two shards to train on, one file to validate on."""
    data = load_breast_cancer()
    rows = numpy.column_stack([data.target, data.data])
    training, validation = train_test_split(rows, test_size=0.3, random_state=7, stratify=data.target)
    parts = {"train/0.csv": training[::2], "train/1.csv": training[1::2], "validation/0.csv": validation}
    for key, part in parts.items():
        text = io.StringIO()
        numpy.savetxt(text, part, delimiter=",", fmt="%.8g")
        service.client("s3").put_object(Bucket="test-bucket", Key=f"cancer/{key}", Body=text.getvalue().encode())


@pytest.fixture(scope="module")
def phalanx(tmp_path_factory):
    """A service that encrypts what does not ask for it: SDK v3's tuner has no way to ask."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHALANX_REQUIRE_ENCRYPTION", "upgrade")
        with running(tmp_path_factory.mktemp("phalanx")) as service:
            upload(service)
            yield service


@pytest.fixture(scope="module")
def facts(phalanx, tmp_path_factory):
    """What the programs found, by their names."""
    network = phalanx.network(UDP_500, ESP)
    with started(phalanx, network, tmp_path_factory.mktemp, PROGRAMS) as ended:
        return {name: ended(name)[1] for name in PROGRAMS}


@pytest.fixture(scope="module")
def default(phalanx):
    """The objective of XGBoost's default hyperparameters, with the rounds that all tuned ones have."""
    hyperparameters = {"objective": "binary:logistic", "eval_metric": "logloss", "num_round": "10"}
    phalanx.create("default", HyperParameters=hyperparameters, InputDataConfig=channels())
    metrics = phalanx.ended("default")["FinalMetricDataList"]
    return next(metric["Value"] for metric in metrics if metric["MetricName"] == "validation:logloss")


def channels():
    return [channel("cancer/train", "ShardedByS3Key", "train"), channel("cancer/validation", name="validation")]


def definition(network=None, rounds=10):
    return {
        "StaticHyperParameters": {"objective": "binary:logistic", "num_round": str(rounds)},
        "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        "RoleArn": ROLE,
        "InputDataConfig": channels(),
        "OutputDataConfig": {"S3OutputPath": "s3://test-bucket/models"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 1},
        "StoppingCondition": {"MaxRuntimeInSeconds": 300},
        "EnableInterContainerTrafficEncryption": True,
        **({"VpcConfig": network} if network else {}),
    }


def config(strategy, most, ranges, parallel=2, **members):
    limits = {"MaxParallelTrainingJobs": parallel, **({} if most is None else {"MaxNumberOfTrainingJobs": most})}
    return {
        "Strategy": strategy,
        "HyperParameterTuningJobObjective": OBJECTIVE,
        "ResourceLimits": limits,
        "ParameterRanges": ranges,
        **members,
    }


def describe(service, name):
    return service.fresh("sagemaker").describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)


def ended(service, name, seconds=120):
    wait_for(
        lambda: describe(service, name)["HyperParameterTuningJobStatus"] not in ("InProgress", "Stopping"),
        seconds,
        f"{name} to end",
    )
    return describe(service, name)


def children(service, name):
    answer = service.fresh("sagemaker").list_training_jobs_for_hyper_parameter_tuning_job(
        HyperParameterTuningJobName=name, MaxResults=100
    )
    return answer["TrainingJobSummaries"]


def check_encrypted(service, name):
    """Every training job of a tuning job was an encrypted one, proven as for any other."""
    jobs = children(service, name)
    assert jobs
    for job in jobs:
        described = service.describe(job["TrainingJobName"])
        assert described["EnableInterContainerTrafficEncryption"] is True
        assert described["TuningJobArn"].endswith(f":hyper-parameter-tuning-job/{name}")
        evidence = service.evidence(job["TrainingJobName"])
        assert {pair["algorithm"] for pair in evidence["pairs"]} == {"AES_GCM_16"}
        assert evidence["gaps"] == []


def best_value(service, name):
    return describe(service, name)["BestTrainingJob"]["FinalHyperParameterTuningJobObjectiveMetric"]["Value"]


def test_sdk_v2_tunes_attaches_and_warm_starts(phalanx, default, facts):
    facts = facts["tuning_v2"]
    assert len(facts["objectives"]) == 3
    assert min(facts["objectives"]) == pytest.approx(best_value(phalanx, facts["tuning_job"]))
    assert min(facts["objectives"]) < default
    assert {"eta", "max_depth", "TrainingJobName", "TrainingElapsedTimeSeconds"} <= set(facts["columns"])
    assert facts["best"] == facts["attached_best"]
    assert facts["best_model"] == f"s3://test-bucket/models/{facts['best']}/output/model.tar.gz"
    assert facts["attached_encrypts"] is True
    assert facts["overall"] in (facts["best"], facts["following_best"])
    check_encrypted(phalanx, facts["tuning_job"])


def test_sdk_v3_tunes_and_what_it_drops_is_required_of_its_training_jobs(phalanx, default, facts):
    facts = facts["tuning_v3"]
    best = describe(phalanx, facts["tuning_job"])["BestTrainingJob"]
    assert best["TrainingJobName"] == facts["best"]
    assert best["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] < default
    check_encrypted(phalanx, facts["tuning_job"])


def test_aws_cli_runs_a_grid(phalanx, default, aws, tmp_path):
    ranges = {
        "CategoricalParameterRanges": [{"Name": "eta", "Values": ["0.3", "0.6"]}, {"Name": "max_depth", "Values": ["2", "6"]}]
    }
    for name, members in (("config", config("Grid", None, ranges, 4)), ("job", definition(phalanx.network(UDP_500, ESP)))):
        (tmp_path / f"{name}.json").write_text(json.dumps(members))
    create = f"--hyper-parameter-tuning-job-config file://{tmp_path}/config.json --training-job-definition file://{tmp_path}/job.json"
    aws(f"aws sagemaker create-hyper-parameter-tuning-job --hyper-parameter-tuning-job-name grid {create}")
    assert "already exists" in aws.refused(
        f"aws sagemaker create-hyper-parameter-tuning-job --hyper-parameter-tuning-job-name grid {create}"
    )
    described = ended(phalanx, "grid")
    assert described["TrainingJobStatusCounters"]["Completed"] == described["ObjectiveStatusCounters"]["Succeeded"] == 4
    listed = aws(
        "aws sagemaker list-training-jobs-for-hyper-parameter-tuning-job --hyper-parameter-tuning-job-name grid"
        " --sort-by FinalObjectiveMetricValue"
    )["TrainingJobSummaries"]
    assert listed[0]["TrainingJobName"] == described["BestTrainingJob"]["TrainingJobName"]
    assert len({tuple(sorted(job["TunedHyperParameters"].items())) for job in listed}) == 4
    assert best_value(phalanx, "grid") < default
    check_encrypted(phalanx, "grid")
    assert aws("aws sagemaker list-hyper-parameter-tuning-jobs --name-contains grid")["HyperParameterTuningJobSummaries"]
    aws("aws sagemaker delete-hyper-parameter-tuning-job --hyper-parameter-tuning-job-name grid")
    assert "can't find a tuning job called grid" in aws.refused(
        "aws sagemaker describe-hyper-parameter-tuning-job --hyper-parameter-tuning-job-name grid"
    )


def test_hyperband_stops_training_jobs_as_a_user_would(phalanx, default):
    """Training jobs of far more rounds than MaxResource: all are stopped while they train, by what they have emitted."""
    ranges = {"ContinuousParameterRanges": [{"Name": "eta", "MinValue": "0.05", "MaxValue": "0.3"}]}
    tuning = config(
        "Hyperband",
        3,
        ranges,
        3,
        StrategyConfig={"HyperbandStrategyConfig": {"MinResource": 10, "MaxResource": 40}},
        RandomSeed=1,
    )
    phalanx.client("sagemaker").create_hyper_parameter_tuning_job(
        HyperParameterTuningJobName="hyperband",
        HyperParameterTuningJobConfig=tuning,
        TrainingJobDefinition=definition(phalanx.network(UDP_500, ESP), rounds=100_000),
    )
    described = ended(phalanx, "hyperband")
    assert described["TrainingJobStatusCounters"]["Stopped"] == described["ObjectiveStatusCounters"]["Succeeded"] == 3
    assert best_value(phalanx, "hyperband") < default
    check_encrypted(phalanx, "hyperband")


def test_killed_service_goes_on_with_the_tuning_job(own_phalanx):
    upload(own_phalanx)
    ranges = {"ContinuousParameterRanges": [{"Name": "eta", "MinValue": "0.3", "MaxValue": "1.0"}]}
    own_phalanx.client("sagemaker").create_hyper_parameter_tuning_job(
        HyperParameterTuningJobName="survivor",
        HyperParameterTuningJobConfig=config("Bayesian", 5, ranges),
        TrainingJobDefinition=definition(),
    )
    for done in (1, 3):
        wait_for(
            lambda done=done: describe(own_phalanx, "survivor")["ObjectiveStatusCounters"]["Succeeded"] >= done,
            60,
            f"{done} evaluations",
        )
        own_phalanx.kill()
        own_phalanx.start()
    described = ended(own_phalanx, "survivor")
    assert described["HyperParameterTuningJobStatus"] == "Completed"
    assert described["TrainingJobStatusCounters"]["Completed"] == described["ObjectiveStatusCounters"]["Succeeded"] == 5
    jobs = children(own_phalanx, "survivor")
    assert [job["TrainingJobName"].rpartition("-")[0] for job in jobs] == [f"survivor-00{number}" for number in range(1, 6)]
    listed = own_phalanx.fresh("sagemaker").list_training_jobs(NameContains="survivor")["TrainingJobSummaries"]
    assert len(listed) == 5
    assert all(job["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] > 0 for job in jobs)
