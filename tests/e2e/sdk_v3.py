"""A user's program with the SageMaker Python SDK v3: a script, two encrypted instances, torchrun."""

import json
import logging
import sys
from pathlib import Path

import boto3
from sagemaker.train import ModelTrainer
from sagemaker.train.configs import Compute, Networking, SourceCode
from sagemaker.train.distributed import Torchrun


class Watch(logging.Handler):
    """Notes what the job was doing when the SDK showed a line of the script."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def emit(self, record):
        if "rank 0 of 2" in record.getMessage():
            client = boto3.client("sagemaker")
            name = client.list_training_jobs(NameContains="v3")["TrainingJobSummaries"][0]["TrainingJobName"]
            self.seen.append(client.describe_training_job(TrainingJobName=name)["SecondaryStatus"])


def main(subnet, group):
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    watch = Watch()
    logging.getLogger("sagemaker.core").addHandler(watch)
    trainer = ModelTrainer(
        training_image="763104351884.dkr.ecr.us-west-2.amazonaws.com/pytorch-training:2.3.0-cpu-py311",
        source_code=SourceCode(source_dir=str(Path(__file__).with_name("source")), entry_script="train.py"),
        compute=Compute(instance_type="ml.m5.large", instance_count=2, volume_size_in_gb=1),
        networking=Networking(subnets=[subnet], security_group_ids=[group], enable_inter_container_traffic_encryption=True),
        distributed=Torchrun(),
        # Longer than the SDK's 5 s between two looks.
        hyperparameters={"rounds": 5, "linger": 8},
        role="arn:aws:iam::123456789012:role/SageMakerTraining",
        base_job_name="v3",
    )
    trainer.train(wait=True, logs=True)
    job = trainer._latest_training_job
    print("FACTS", json.dumps({"job": job.training_job_name, "status": job.training_job_status, "seen": watch.seen}))


main(*sys.argv[1:])
