"""Forecast sea surface temperatures with DeepAR on two instances whose traffic is encrypted.

Plain boto3 (`pip install boto3 scikit-learn statsmodels`), as one would write it for Amazon SageMaker; the data come with
statsmodels: monthly temperatures off Peru. Point it at Phalanx first:

    eval "$(phalanx env)" && python examples/deepar.py
"""

import json
import subprocess
import time

import boto3
from encrypted_training import PHALANX, RUN, protocol, security_group, udp
from statsmodels.datasets import elnino

JOB = f"deepar-{RUN}"
MONTHS = 12

ec2, s3, sagemaker = boto3.client("ec2"), boto3.client("s3"), boto3.client("sagemaker")
account = boto3.client("sts").get_caller_identity()["Account"]
region = sagemaker.meta.region_name
bucket = f"sagemaker-{region}-{account}"


def main() -> None:
    upload()
    vpc = ec2.create_vpc(CidrBlock="10.50.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.50.1.0/24")["Subnet"]["SubnetId"]
    group = security_group(vpc, "deepar", [udp(500), protocol(50)])
    sagemaker.create_training_job(
        TrainingJobName=JOB,
        AlgorithmSpecification={
            # What sagemaker.image_uris.retrieve("forecasting-deepar", "us-west-2") returns.
            "TrainingImage": "156387875391.dkr.ecr.us-west-2.amazonaws.com/forecasting-deepar:1",
            "TrainingInputMode": "File",
        },
        RoleArn=f"arn:aws:iam::{account}:role/SageMakerTraining",
        HyperParameters={
            "time_freq": "M",
            "prediction_length": str(MONTHS),
            "context_length": str(2 * MONTHS),
            "epochs": "25",
            "learning_rate": "0.005",
            "mini_batch_size": "32",
            "num_cells": "30",
        },
        InputDataConfig=[channel("train"), channel("test")],
        OutputDataConfig={"S3OutputPath": f"s3://{bucket}/models"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 10},
        StoppingCondition={"MaxRuntimeInSeconds": 900},
        VpcConfig={"Subnets": [subnet], "SecurityGroupIds": [group]},
        EnableInterContainerTrafficEncryption=True,
    )
    while (job := sagemaker.describe_training_job(TrainingJobName=JOB))["TrainingJobStatus"] == "InProgress":
        time.sleep(1)
    if job["TrainingJobStatus"] != "Completed":
        raise SystemExit(f"{JOB}: {job['TrainingJobStatus']}: {job.get('FailureReason')}")
    print(f"{JOB}: {job['TrainingJobStatus']}, model in {job['ModelArtifacts']['S3ModelArtifacts']}")
    metrics = {each["MetricName"]: each["Value"] for each in job["FinalMetricDataList"]}
    print(f"The last year of each decade: RMSE {metrics['test:RMSE']:.2f} degrees, ", end="")
    print(f"mean weighted quantile loss {metrics['test:mean_wQuantileLoss']:.4f}", flush=True)
    subprocess.run([PHALANX, "evidence", JOB], check=True)


def upload() -> None:
    """A series for each decade, an object for each series; training is without the year that is to be forecast."""
    if bucket not in [item["Name"] for item in s3.list_buckets()["Buckets"]]:
        s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": region})
    years = elnino.load_pandas().data.set_index("YEAR")
    for decade in range(1950, 2010, 10):
        target = years.loc[decade : decade + 9].to_numpy().ravel().tolist()
        for name, points in (("train", target[:-MONTHS]), ("test", target)):
            record = json.dumps({"start": f"{decade}-01-01 00:00:00", "target": points}) + "\n"
            s3.put_object(Bucket=bucket, Key=f"elnino/{name}/{decade}.json", Body=record.encode())


def channel(name: str) -> dict:
    """A channel whose objects are divided between the instances."""
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{bucket}/elnino/{name}/", "S3DataDistributionType": "ShardedByS3Key"}
    return {"ChannelName": name, "ContentType": "jsonlines", "DataSource": {"S3DataSource": source}}


main()
