"""A user's program with the SageMaker Python SDK v2: script mode with PyTorch, alone, with peers, by torchrun and by MPI."""

import json
import sys
from pathlib import Path

import sagemaker
from sagemaker.pytorch import PyTorch

SOURCE = Path(__file__).with_name("source")


def main(subnet, group):
    session = sagemaker.Session()

    def estimator(name, instances, hyperparameters=None, **more):
        return PyTorch(
            entry_point="train.py",
            source_dir=str(SOURCE),
            role="arn:aws:iam::123456789012:role/SageMakerTraining",
            framework_version="2.3.0",
            py_version="py311",
            instance_count=instances,
            instance_type="ml.m5.large",
            subnets=[subnet],
            security_group_ids=[group],
            encrypt_inter_container_traffic=True,
            hyperparameters={"rounds": 5, **(hyperparameters or {})},
            base_job_name=name,
            sagemaker_session=session,
            **more,
        )

    launched = {
        "mpi": estimator("mpi", 2, distribution={"mpi": {"enabled": True, "processes_per_host": 1}}),
        # What distribution={"torch_distributed": …} sends, which the SDK keeps to instance types with accelerators.
        "torchrun": estimator("torchrun", 2, {"sagemaker_torch_distributed_enabled": True}),
        "isolated": estimator("isolated", 1, enable_network_isolation=True),
    }
    for each in launched.values():
        each.fit(wait=False)
    peers = launched["peers"] = estimator("peers", 2)
    peers.fit(logs="All")
    attached = PyTorch.attach(peers.latest_training_job.name, sagemaker_session=session)
    for each in launched.values():
        each.latest_training_job.wait(logs="None")
    facts = {
        "jobs": {name: each.latest_training_job.name for name, each in launched.items()},
        "model": peers.model_data,
        "attached": [attached.latest_training_job.name, attached.model_data, attached.hyperparameters()["rounds"]],
    }
    print("FACTS", json.dumps(facts))


main(*sys.argv[1:])
