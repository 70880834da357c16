"""Train SageMaker's built-in linear learner on two instances whose traffic is encrypted: handwritten digits.

Plain SageMaker SDK v2 (`pip install "sagemaker<3" scikit-learn`), as one would write it for Amazon SageMaker: its LinearLearner
uploads arrays as recordio-protobuf. Point it at Phalanx first:

    eval "$(phalanx env)" && python examples/linear_learner.py
"""

import boto3
import sagemaker
from encrypted_training import protocol, security_group, udp
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

session = sagemaker.Session()
ec2 = boto3.client("ec2")


def main() -> None:
    digits = load_digits()
    x, held_out, y, truth = train_test_split(
        digits.data.astype("float32"), digits.target.astype("float32"), test_size=0.25, random_state=7
    )
    vpc = ec2.create_vpc(CidrBlock="10.23.0.0/16")["Vpc"]["VpcId"]
    estimator = sagemaker.LinearLearner(
        role="arn:aws:iam::123456789012:role/SageMakerTraining",
        instance_count=2,
        instance_type="ml.m5.large",
        predictor_type="multiclass_classifier",
        num_classes=10,
        num_models=8,
        epochs=20,
        subnets=[ec2.create_subnet(VpcId=vpc, CidrBlock="10.23.1.0/24")["Subnet"]["SubnetId"]],
        security_group_ids=[security_group(vpc, "linear-learner", [udp(500), protocol(50)])],
        encrypt_inter_container_traffic=True,
        sagemaker_session=session,
    )
    records = [estimator.record_set(x, y), estimator.record_set(held_out, truth, channel="test")]
    estimator.fit(records, mini_batch_size=100)

    job = estimator.latest_training_job.describe()
    final = {metric["MetricName"]: metric["Value"] for metric in job["FinalMetricDataList"]}
    plain = LogisticRegression(max_iter=1000).fit(x / 16, y).score(held_out / 16, truth)
    print(f"{job['TrainingJobName']}: {job['TrainingJobStatus']}, model in {estimator.model_data}")
    print(f"accuracy on digits it has not seen: {final['test:multiclass_accuracy']:.3f}")
    print(f"scikit-learn's logistic regression, for comparison: {plain:.3f}")
    print(f"what was encrypted: phalanx evidence {job['TrainingJobName']}")


main()
