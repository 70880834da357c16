"""A user's program with the SageMaker Python SDK v3: its tuner passes the VPC on, but not the flag of encryption."""

import json
import sys

from sagemaker.core.parameter import ContinuousParameter
from sagemaker.train import ModelTrainer
from sagemaker.train.configs import Channel, Compute, DataSource, Networking, OutputDataConfig, S3DataSource
from sagemaker.train.tuner import HyperparameterTuner


def channel(name, distribution):
    source = S3DataSource(
        s3_data_type="S3Prefix", s3_uri=f"s3://test-bucket/cancer/{name}/", s3_data_distribution_type=distribution
    )
    return Channel(channel_name=name, content_type="text/csv", data_source=DataSource(s3_data_source=source))


def main(subnet, group):
    trainer = ModelTrainer(
        training_image="246618743249.dkr.ecr.us-west-2.amazonaws.com/sagemaker-xgboost:1.7-1",
        compute=Compute(instance_type="ml.m5.large", instance_count=2, volume_size_in_gb=1),
        networking=Networking(subnets=[subnet], security_group_ids=[group], enable_inter_container_traffic_encryption=True),
        hyperparameters={"objective": "binary:logistic", "num_round": "10"},
        output_data_config=OutputDataConfig(s3_output_path="s3://test-bucket/models"),
        role="arn:aws:iam::123456789012:role/SageMakerTraining",
    )
    tuner = HyperparameterTuner(
        trainer,
        objective_metric_name="validation:logloss",
        objective_type="Minimize",
        hyperparameter_ranges={"eta": ContinuousParameter(0.4, 1.0)},
        strategy="Random",
        max_jobs=2,
        max_parallel_jobs=2,
        random_seed=1,
    )
    tuner.tune(inputs=[channel("train", "ShardedByS3Key"), channel("validation", "FullyReplicated")], job_name="v3", wait=True)
    print("FACTS", json.dumps({"tuning_job": "v3", "best": tuner.best_training_job()}))


main(*sys.argv[1:])
