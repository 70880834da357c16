"""Tune XGBoost: every training job on two instances with inter-container traffic encryption, and the proof for each.

Plain boto3 (`pip install boto3 scikit-learn`), as one would write it for Amazon SageMaker. Point it at Phalanx first:

    eval "$(phalanx env)" && python examples/tuning.py
"""

import subprocess
import time

import boto3
from encrypted_training import PHALANX, RUN, protocol, security_group, udp, upload_data

NAME = f"tuning-{RUN}"

ec2 = boto3.client("ec2")
sagemaker = boto3.client("sagemaker")
account = boto3.client("sts").get_caller_identity()["Account"]


def main() -> None:
    bucket = upload_data()
    vpc = ec2.create_vpc(CidrBlock="10.21.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.21.1.0/24")["Subnet"]["SubnetId"]
    group = security_group(vpc, "tuning", [udp(500), protocol(50)])

    def channel(kind: str, distribution: str) -> dict:
        source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{bucket}/breast-cancer/{kind}/"}
        return {
            "ChannelName": kind,
            "ContentType": "text/csv",
            "DataSource": {"S3DataSource": {**source, "S3DataDistributionType": distribution}},
        }

    sagemaker.create_hyper_parameter_tuning_job(
        HyperParameterTuningJobName=NAME,
        HyperParameterTuningJobConfig={
            "Strategy": "Bayesian",
            "HyperParameterTuningJobObjective": {"Type": "Minimize", "MetricName": "validation:logloss"},
            "ResourceLimits": {"MaxNumberOfTrainingJobs": 12, "MaxParallelTrainingJobs": 3},
            "ParameterRanges": {
                "ContinuousParameterRanges": [
                    {"Name": "eta", "MinValue": "0.05", "MaxValue": "1.0", "ScalingType": "Logarithmic"},
                    {"Name": "subsample", "MinValue": "0.5", "MaxValue": "1.0"},
                ],
                "IntegerParameterRanges": [{"Name": "max_depth", "MinValue": "2", "MaxValue": "8"}],
            },
            "TrainingJobEarlyStoppingType": "Auto",
        },
        TrainingJobDefinition={
            "StaticHyperParameters": {"objective": "binary:logistic", "num_round": "40"},
            "AlgorithmSpecification": {
                "TrainingImage": "246618743249.dkr.ecr.us-west-2.amazonaws.com/sagemaker-xgboost:1.7-1",
                "TrainingInputMode": "File",
            },
            "RoleArn": f"arn:aws:iam::{account}:role/SageMakerTraining",
            "InputDataConfig": [channel("train", "ShardedByS3Key"), channel("validation", "FullyReplicated")],
            "OutputDataConfig": {"S3OutputPath": f"s3://{bucket}/models"},
            "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 10},
            "StoppingCondition": {"MaxRuntimeInSeconds": 600},
            "VpcConfig": {"Subnets": [subnet], "SecurityGroupIds": [group]},
            "EnableInterContainerTrafficEncryption": True,
        },
    )
    while (job := sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=NAME))[
        "HyperParameterTuningJobStatus"
    ] == "InProgress":
        print(f"\r  {job['TrainingJobStatusCounters']}", end="", flush=True)
        time.sleep(0.5)
    print(f"\n{NAME}: {job['HyperParameterTuningJobStatus']} in {job['ConsumedResources']['RuntimeInSeconds']} s")
    jobs = sagemaker.list_training_jobs_for_hyper_parameter_tuning_job(
        HyperParameterTuningJobName=NAME, SortBy="FinalObjectiveMetricValue", MaxResults=100
    )["TrainingJobSummaries"]
    for each in jobs:
        value = each["FinalHyperParameterTuningJobObjectiveMetric"]["Value"]
        print(f"  {each['TrainingJobName']}  {each['TrainingJobStatus']:<10} {value:.5f}  {each['TunedHyperParameters']}")
    best = job["BestTrainingJob"]["TrainingJobName"]
    print(f"\nEvidence of the best one, {best}")
    subprocess.run([PHALANX, "evidence", best], check=True)


if __name__ == "__main__":
    main()
