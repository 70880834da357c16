"""Train SageMaker's built-in XGBoost on two instances whose traffic is encrypted: the progress of diabetes in a year.

Plain SageMaker SDK v2 (`pip install "sagemaker<3" scikit-learn`), as one would write it for Amazon SageMaker. Point it at
Phalanx first:

    eval "$(phalanx env)" && python examples/xgboost_training.py
"""

import io
import tarfile

import boto3
import numpy
import sagemaker
from encrypted_training import protocol, security_group, udp
from sagemaker import image_uris
from sagemaker.estimator import Estimator
from sagemaker.inputs import TrainingInput
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_squared_error
from sklearn.model_selection import train_test_split

session = sagemaker.Session()
bucket = session.default_bucket()
s3, ec2 = boto3.client("s3"), boto3.client("ec2")


def main() -> None:
    data = load_diabetes()
    rows = numpy.column_stack([data.target, data.data])  # the label first, no header
    training, held_out = train_test_split(rows, test_size=0.25, random_state=7)
    # One part for each instance: ShardedByS3Key gives every instance its share of the files.
    parts = {"train/part-0.csv": training[::2], "train/part-1.csv": training[1::2], "validation/all.csv": held_out}
    for key, part in parts.items():
        text = io.StringIO()
        numpy.savetxt(text, part, delimiter=",", fmt="%.8g")
        s3.put_object(Bucket=bucket, Key=f"diabetes/{key}", Body=text.getvalue().encode())

    vpc = ec2.create_vpc(CidrBlock="10.22.0.0/16")["Vpc"]["VpcId"]
    estimator = Estimator(
        image_uri=image_uris.retrieve("xgboost", session.boto_region_name, "1.7-1"),
        role="arn:aws:iam::123456789012:role/SageMakerTraining",
        instance_count=2,
        instance_type="ml.m5.large",
        hyperparameters={
            "objective": "reg:squarederror",
            "eval_metric": "rmse",
            "num_round": 200,
            "max_depth": 2,
            "eta": 0.1,
            "subsample": 0.8,
            "early_stopping_rounds": 20,
        },
        subnets=[ec2.create_subnet(VpcId=vpc, CidrBlock="10.22.1.0/24")["Subnet"]["SubnetId"]],
        security_group_ids=[security_group(vpc, "xgboost", [udp(500), protocol(50)])],
        encrypt_inter_container_traffic=True,
        sagemaker_session=session,
    )
    train = TrainingInput(f"s3://{bucket}/diabetes/train/", content_type="text/csv", distribution="ShardedByS3Key")
    validation = TrainingInput(f"s3://{bucket}/diabetes/validation/", content_type="text/csv")
    estimator.fit({"train": train, "validation": validation})

    job = estimator.latest_training_job.describe()
    final = {metric["MetricName"]: metric["Value"] for metric in job["FinalMetricDataList"]}
    line = LinearRegression().fit(training[:, 1:], training[:, 0]).predict(held_out[:, 1:])
    print(f"{job['TrainingJobName']}: {job['TrainingJobStatus']}")
    print(f"root mean squared error on patients it has not seen: {final['validation:rmse']:.2f}")
    print(f"scikit-learn's linear regression, for comparison: {mean_squared_error(held_out[:, 0], line) ** 0.5:.2f}")
    print(f"in {estimator.model_data}: {', '.join(contents(estimator.model_data))}, which xgboost.Booster loads")
    print(f"what was encrypted: phalanx evidence {job['TrainingJobName']}")


def contents(uri: str) -> list[str]:
    """Names of the files in a model.tar.gz."""
    key = uri.removeprefix(f"s3://{bucket}/")
    with tarfile.open(fileobj=io.BytesIO(s3.get_object(Bucket=bucket, Key=key)["Body"].read())) as archive:
        return [member.name for member in archive if member.isfile()]


main()
