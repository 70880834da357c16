"""A user's program with the SageMaker Python SDK v3: a script, two encrypted instances, torchrun."""

import json
import logging
import sys
from pathlib import Path

from sagemaker.train import ModelTrainer
from sagemaker.train.configs import Compute, Networking, SourceCode
from sagemaker.train.distributed import Torchrun


def main(subnet, group):
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    trainer = ModelTrainer(
        training_image="763104351884.dkr.ecr.us-west-2.amazonaws.com/pytorch-training:2.3.0-cpu-py311",
        source_code=SourceCode(source_dir=str(Path(__file__).with_name("source")), entry_script="train.py"),
        compute=Compute(instance_type="ml.m5.large", instance_count=2, volume_size_in_gb=1),
        networking=Networking(subnets=[subnet], security_group_ids=[group], enable_inter_container_traffic_encryption=True),
        distributed=Torchrun(),
        hyperparameters={"rounds": 5},
        role="arn:aws:iam::123456789012:role/SageMakerTraining",
        base_job_name="v3",
    )
    trainer.train(wait=True, logs=True)
    job = trainer._latest_training_job
    print("FACTS", json.dumps({"job": job.training_job_name, "status": job.training_job_status}))


main(*sys.argv[1:])
