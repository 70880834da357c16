"""Train XGBoost on two instances with inter-container traffic encryption, and see what it changes.

Plain boto3 (`pip install boto3 scikit-learn`), as one would write it for Amazon SageMaker. Point it at Phalanx first:

    eval "$(phalanx env)" && python examples/encrypted_training.py

It runs four jobs: (a) encrypted on two instances, (b) the same in the clear, (c) encrypted with a security group that lacks
the rule for ESP, (d) the encryption flag on a single instance. While (a) and (b) run, `phalanx capture` counts what crosses
the network between the instances.
"""

import io
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import boto3
import numpy
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

RUN = time.strftime("%H%M%S")
# Beside this Python, as in a checkout's .venv; else where the package has put it.
PHALANX = shutil.which("phalanx", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}") or "phalanx"

ec2 = boto3.client("ec2")
s3 = boto3.client("s3")
sagemaker = boto3.client("sagemaker")
account = boto3.client("sts").get_caller_identity()["Account"]
region = sagemaker.meta.region_name


def main() -> None:
    title("Data: Wisconsin breast cancer, two shards for training, one file for validation")
    bucket = upload_data()

    title("Network: a VPC with one subnet, and three security groups")
    vpc = ec2.create_vpc(CidrBlock="10.20.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.20.1.0/24")["Subnet"]["SubnetId"]
    encrypted = security_group(vpc, "encrypted", [udp(500), protocol(50)])
    clear = security_group(vpc, "clear", [tcp(0, 65535)])
    lacking = security_group(vpc, "lacks-esp", [udp(500)])
    print(f"  {vpc}  {subnet}\n  UDP 500 + ESP: {encrypted}   TCP: {clear}   UDP 500 only: {lacking}")

    network = {"Subnets": [subnet]}
    title("(a) Two instances, encrypted")
    capture = start_capture(vpc)
    a = train("encrypted", bucket, 2, True, {**network, "SecurityGroupIds": [encrypted]})
    seen_a = end_capture(capture)

    title("(b) Two instances, in the clear")
    capture = start_capture(vpc)
    b = train("clear", bucket, 2, False, {**network, "SecurityGroupIds": [clear]})
    seen_b = end_capture(capture)

    title("(c) Two instances, encrypted, but the security group has no rule for ESP")
    c = train("lacks-esp", bucket, 2, True, {**network, "SecurityGroupIds": [lacking]})

    title("(d) One instance with the flag: nothing to encrypt, nothing started")
    d = train("single", bucket, 1, True, {**network, "SecurityGroupIds": [encrypted]})

    title("What crossed the network between the instances")
    print(f"  (a) {seen_a}\n  (b) {seen_b}")
    title("Evidence of (a)")
    subprocess.run([PHALANX, "evidence", a["TrainingJobName"]], check=True)
    title("Why (c) failed")
    print(f"  {c.get('FailureReason')}")

    evidence_a, evidence_d = evidence(a), evidence(d)
    title("Result")
    table(
        [
            ("job", "instances", "encrypted", "status", "validation AUC", "training s"),
            *[
                (
                    name,
                    str(job["ResourceConfig"]["InstanceCount"]),
                    str(job["EnableInterContainerTrafficEncryption"]),
                    job["TrainingJobStatus"],
                    f"{auc(job):.4f}" if auc(job) else "-",
                    str(job.get("TrainingTimeInSeconds", "-")),
                )
                for name, job in (("a", a), ("b", b), ("c", c), ("d", d))
            ],
        ]
    )
    check("(a), (b) and (d) completed", all(job["TrainingJobStatus"] == "Completed" for job in (a, b, d)))
    check("(a) and (b) learnt the same", bool(auc(a)) and abs(auc(a) - auc(b)) < 0.01)
    check("their models are in S3", all(model_size(job) > 0 for job in (a, b, d)))
    check("(a) put only IKE (UDP 500) and ESP on the network", "ESP" in seen_a and set(seen_a) <= {"UDP 500", "ESP"})
    check("(b) put TCP on the network: the capture sees plaintext where there is any", seen_b.get("TCP", 0) > 0)
    check(
        "the evidence of (a): AES-GCM with 256 bits both ways, nothing unmeasured",
        len(evidence_a["pairs"]) == 2
        and all(p["algorithm"] == "AES_GCM_16" and p["key_bits"] == 256 and p["packets"] > 0 for p in evidence_a["pairs"])
        and not evidence_a["gaps"],
    )
    check("(c) failed and names the missing rule", "ESP (protocol 50)" in c.get("FailureReason", ""))
    check("(d) started no IKE and no data plane", not evidence_d["pairs"] and evidence_d["data_plane"] is None)


def upload_data() -> str:
    """Put the data where SageMaker's XGBoost expects it: CSV, label first, no header."""
    bucket = f"sagemaker-{region}-{account}"
    if bucket not in [item["Name"] for item in s3.list_buckets()["Buckets"]]:
        s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": region})
    data = load_breast_cancer()
    rows = numpy.column_stack([data.target, data.data])
    training, validation = train_test_split(rows, test_size=0.2, random_state=7, stratify=data.target)
    half = len(training) // 2
    for key, part in {
        "train/part-0.csv": training[:half],
        "train/part-1.csv": training[half:],
        "validation/all.csv": validation,
    }.items():
        text = io.StringIO()
        numpy.savetxt(text, part, delimiter=",", fmt="%.8g")
        s3.put_object(Bucket=bucket, Key=f"breast-cancer/{key}", Body=text.getvalue().encode())
        print(f"  s3://{bucket}/breast-cancer/{key}  {len(part)} rows")
    return bucket


def security_group(vpc: str, name: str, permissions: list[dict]) -> str:
    """A group whose members may send each other what `permissions` say, in and out, and nothing else."""
    group = ec2.create_security_group(GroupName=name, Description=f"Phalanx demo: {name}", VpcId=vpc)["GroupId"]
    ec2.revoke_security_group_egress(GroupId=group, IpPermissions=[{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}])
    rules = [{**permission, "UserIdGroupPairs": [{"GroupId": group}]} for permission in permissions]
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=rules)
    ec2.authorize_security_group_egress(GroupId=group, IpPermissions=rules)
    return group


def udp(port: int) -> dict:
    return {"IpProtocol": "udp", "FromPort": port, "ToPort": port}


def tcp(first: int, last: int) -> dict:
    return {"IpProtocol": "tcp", "FromPort": first, "ToPort": last}


def protocol(number: int) -> dict:
    return {"IpProtocol": str(number)}


def train(name: str, bucket: str, instances: int, encrypt: bool, network: dict) -> dict:
    """Run a training job to its end, showing its transitions; the last DescribeTrainingJob."""
    job = f"demo-{name}-{RUN}"

    def channel(kind: str, distribution: str) -> dict:
        return {
            "ChannelName": kind,
            "ContentType": "text/csv",
            "DataSource": {
                "S3DataSource": {
                    "S3DataType": "S3Prefix",
                    "S3Uri": f"s3://{bucket}/breast-cancer/{kind}/",
                    "S3DataDistributionType": distribution,
                }
            },
        }

    sagemaker.create_training_job(
        TrainingJobName=job,
        AlgorithmSpecification={
            # What sagemaker.image_uris.retrieve("xgboost", "us-west-2", "1.7-1") returns.
            "TrainingImage": "246618743249.dkr.ecr.us-west-2.amazonaws.com/sagemaker-xgboost:1.7-1",
            "TrainingInputMode": "File",
        },
        RoleArn=f"arn:aws:iam::{account}:role/SageMakerTraining",
        HyperParameters={"objective": "binary:logistic", "eval_metric": "auc", "num_round": "60", "max_depth": "4"},
        InputDataConfig=[
            channel("train", "ShardedByS3Key" if instances > 1 else "FullyReplicated"),
            channel("validation", "FullyReplicated"),
        ],
        OutputDataConfig={"S3OutputPath": f"s3://{bucket}/models"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": instances, "VolumeSizeInGB": 10},
        StoppingCondition={"MaxRuntimeInSeconds": 600},
        VpcConfig=network,
        EnableInterContainerTrafficEncryption=encrypt,
    )
    started, shown = time.monotonic(), 0
    while True:
        described = sagemaker.describe_training_job(TrainingJobName=job)
        transitions = described.get("SecondaryStatusTransitions", [])
        for transition in transitions[shown:]:
            print(
                f"  {time.monotonic() - started:5.1f} s  {transition['Status']:<12} {transition['StatusMessage']}", flush=True
            )
        shown = len(transitions)
        if described["TrainingJobStatus"] in ("Completed", "Failed", "Stopped"):
            return described
        time.sleep(0.1)


def auc(job: dict) -> float:
    metrics = {item["MetricName"]: item["Value"] for item in job.get("FinalMetricDataList", [])}
    return metrics.get("validation:auc", 0.0)


def model_size(job: dict) -> int:
    bucket, _, key = job["ModelArtifacts"]["S3ModelArtifacts"].removeprefix("s3://").partition("/")
    return s3.head_object(Bucket=bucket, Key=key)["ContentLength"]


def start_capture(vpc: str) -> subprocess.Popen:
    """Watch the VPC's network from before the first instance is attached to it."""
    # On a fleet of several hosts it runs on one of them (hosts_demo.py).
    command = [*shlex.split(os.environ.get("PHALANX_CAPTURE", f"{PHALANX} capture")), vpc, "--json"]
    capture = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert capture.stderr is not None
    print(f"  {capture.stderr.readline().strip()}")
    return capture


def end_capture(capture: subprocess.Popen) -> dict[str, int]:
    """Frames between the instances, by kind. The capture ends by itself when the last instance has left the VPC."""
    output, _ = capture.communicate(timeout=60)
    frames: dict[str, int] = {}
    for row in json.loads(output)["frames"]:
        frames[row["kind"]] = frames.get(row["kind"], 0) + row["frames"]
    return frames


def evidence(job: dict) -> dict:
    shown = subprocess.run([PHALANX, "evidence", job["TrainingJobName"], "--json"], check=True, capture_output=True, text=True)
    path = Path(f"/tmp/evidence-{job['TrainingJobName']}.json")
    path.write_text(shown.stdout)
    subprocess.run([PHALANX, "evidence", "--verify", str(path)], check=True)
    path.unlink()
    return json.loads(shown.stdout)


def title(text: str) -> None:
    print(f"\n{text}\n{'─' * len(text)}", flush=True)


def table(rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))


def check(what: str, holds: bool) -> None:
    print(f"  {'✓' if holds else '✗'} {what}", flush=True)
    if not holds:
        FAILED.append(what)


FAILED: list[str] = []

if __name__ == "__main__":
    main()
    sys.exit(f"{len(FAILED)} of the checks failed" if FAILED else 0)
