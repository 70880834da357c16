"""A user's program with the SageMaker Python SDK v2: tune, look at the results, attach, and go on with a warm start."""

import json
import sys

import sagemaker
from sagemaker import image_uris
from sagemaker.estimator import Estimator
from sagemaker.inputs import TrainingInput
from sagemaker.tuner import ContinuousParameter, HyperparameterTuner, IntegerParameter


def main(subnet, group):
    session = sagemaker.Session()
    estimator = Estimator(
        image_uri=image_uris.retrieve("xgboost", "us-west-2", "1.7-1"),
        role="arn:aws:iam::123456789012:role/SageMakerTraining",
        instance_count=2,
        instance_type="ml.m5.large",
        volume_size=1,
        output_path="s3://test-bucket/models",
        encrypt_inter_container_traffic=True,
        subnets=[subnet],
        security_group_ids=[group],
        hyperparameters={"objective": "binary:logistic", "num_round": 10},
        sagemaker_session=session,
    )
    tuner = HyperparameterTuner(
        estimator,
        objective_metric_name="validation:logloss",
        objective_type="Minimize",
        hyperparameter_ranges={"eta": ContinuousParameter(0.3, 1.0), "max_depth": IntegerParameter(2, 8)},
        strategy="Bayesian",
        max_jobs=3,
        max_parallel_jobs=2,
        random_seed=1,
        base_tuning_job_name="v2",
    )
    inputs = {
        "train": TrainingInput("s3://test-bucket/cancer/train/", content_type="text/csv", distribution="ShardedByS3Key"),
        "validation": TrainingInput("s3://test-bucket/cancer/validation/", content_type="text/csv"),
    }
    tuner.fit(inputs, wait=True)
    results = tuner.analytics().dataframe()
    attached = HyperparameterTuner.attach(tuner.latest_tuning_job.name, sagemaker_session=session)
    following = attached.identical_dataset_and_algorithm_tuner()
    following.max_jobs, following.max_parallel_jobs = 1, 1
    following.fit(inputs, wait=True)
    facts = {
        "tuning_job": tuner.latest_tuning_job.name,
        "best": tuner.best_training_job(),
        "best_model": tuner.best_estimator().model_data,
        "objectives": list(results["FinalObjectiveValue"]),
        "columns": list(results.columns),
        "attached_best": attached.best_training_job(),
        "attached_encrypts": attached.estimator.encrypt_inter_container_traffic,
        "overall": following.describe()["OverallBestTrainingJob"]["TrainingJobName"],
        "following_best": following.best_training_job(),
    }
    print("FACTS", json.dumps(facts))


main(*sys.argv[1:])
