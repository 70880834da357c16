"""Train a small convolutional network on handwritten digits, on two instances whose traffic is encrypted.

Plain SageMaker SDK v2 (`pip install "sagemaker<3" scikit-learn`), as one would write it for Amazon SageMaker; the script that
the instances run is pytorch_ddp/train.py. Point it at Phalanx first:

    eval "$(phalanx env)" && python examples/pytorch_ddp.py

`python examples/pytorch_ddp.py fsdp` shards the network over the instances instead of giving each of them all of it.
"""

import sys
import tempfile
from pathlib import Path

import boto3
import numpy
import sagemaker
from encrypted_training import protocol, security_group, udp
from sagemaker.pytorch import PyTorch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

ROLE = "arn:aws:iam::123456789012:role/SageMakerTraining"


def main(strategy: str = "ddp") -> None:
    session, ec2 = sagemaker.Session(), boto3.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.40.0.0/16")["Vpc"]["VpcId"]
    estimator = PyTorch(
        entry_point="train.py",
        source_dir=str(Path(__file__).with_suffix("")),
        role=ROLE,
        framework_version="2.3.0",
        py_version="py311",
        instance_count=2,
        instance_type="ml.m5.large",
        hyperparameters={"epochs": 15, "strategy": strategy},
        metric_definitions=[{"Name": "test:accuracy", "Regex": r"test accuracy ([0-9.]+)"}],
        subnets=[ec2.create_subnet(VpcId=vpc, CidrBlock="10.40.1.0/24")["Subnet"]["SubnetId"]],
        security_group_ids=[security_group(vpc, "ddp", [udp(500), protocol(50)])],
        encrypt_inter_container_traffic=True,
        sagemaker_session=session,
    )
    estimator.fit({"train": upload(session)})
    job = estimator.latest_training_job.describe()
    print(f"{job['TrainingJobName']}: {job['TrainingJobStatus']}, model in {estimator.model_data}")
    print(f"accuracy on digits it has not seen: {job['FinalMetricDataList'][0]['Value']:.3f}")
    print(f"what was encrypted: phalanx evidence {job['TrainingJobName']}")


def upload(session: sagemaker.Session) -> str:
    """The digits data set (1,797 images of 8x8 pixels) in the session's bucket; 1,400 to train on, in equal shares."""
    digits = load_digits()
    images = (digits.images[:, None] / 16).astype("float32")
    x, test_x, y, test_y = train_test_split(images, digits.target, train_size=1400, random_state=7)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "digits.npz"
        numpy.savez(path, x=x, y=y, test_x=test_x, test_y=test_y)
        return session.upload_data(str(path), key_prefix="digits")


main(*sys.argv[1:])
