"""A user's program with the SageMaker Python SDK v2, run in an environment of its own with what `phalanx env` prints."""

import json
import sys

import sagemaker
from sagemaker import image_uris
from sagemaker.estimator import Estimator
from sagemaker.experiments.run import Run
from sagemaker.inputs import TrainingInput
from sagemaker.lineage.association import Association


def main(subnet, group):
    session = sagemaker.Session()
    estimator = Estimator(
        image_uri=image_uris.retrieve("xgboost", "us-west-2", "1.7-1"),
        role="arn:aws:iam::123456789012:role/SageMakerTraining",
        instance_count=2,
        instance_type="ml.m5.large",
        volume_size=1,
        output_path="s3://test-bucket/models",
        encrypt_inter_container_traffic=True,
        subnets=[subnet],
        security_group_ids=[group],
        hyperparameters={"objective": "binary:logistic", "eval_metric": "auc", "num_round": 20},
        sagemaker_session=session,
        base_job_name="sdk",
    )
    train = TrainingInput("s3://test-bucket/train/", content_type="text/csv", distribution="ShardedByS3Key")
    estimator.fit({"train": train}, logs="All")
    job = estimator.latest_training_job
    attached = Estimator.attach(job.name, sagemaker_session=session)
    with Run(experiment_name="trying", run_name="once", sagemaker_session=session) as run:
        for step in range(3):
            run.log_metric("loss", 1 / 2**step, step=step)
        run.log_file(__file__, name="program")
    for _ in range(2):
        with Run(experiment_name="trying", run_name="once", sagemaker_session=session) as run:
            # What log_roc_curve, log_precision_recall and log_confusion_matrix do when scikit-learn has computed.
            run._log_graph_artifact({"type": "ROCCurve"}, "ROCCurve", True, "roc")
            run._log_graph_artifact({"type": "ConfusionMatrix"}, "ConfusionMatrix", False, "confusion")
    component = session.sagemaker_client.describe_trial_component(TrialComponentName="trying-once")
    (loss,) = component["Metrics"]
    arn = component["TrialComponentArn"]
    metrics = session.boto_session.client("sagemaker-metrics")
    query = {"MetricName": "loss", "ResourceArn": arn, "MetricStat": "Avg"}
    (steps,) = metrics.batch_get_metrics(
        MetricQueries=[{**query, "Period": "IterationNumber", "XAxisType": "IterationNumber"}]
    )["MetricQueryResults"]
    # As sagemaker.mlflow.forward_sagemaker_metrics asks, which hands the times on to MLflow.
    query |= {"MetricName": "train:auc", "ResourceArn": job.describe()["TrainingJobArn"]}
    (of_job,) = metrics.batch_get_metrics(MetricQueries=[{**query, "Period": "OneMinute", "XAxisType": "Timestamp"}])[
        "MetricQueryResults"
    ]
    facts = {
        "steps": [steps["Status"], steps["XAxisValues"], steps["MetricValues"]],
        "of_job": [of_job["Status"], len(of_job["XAxisValues"]) > 0, all(0 < value <= 1 for value in of_job["MetricValues"])],
        "produced": [each.destination_name for each in Association.list(source_arn=arn, sagemaker_session=session)],
        "contributed": [each.source_type for each in Association.list(destination_arn=arn, sagemaker_session=session)],
        "file": component["OutputArtifacts"]["program"]["MediaType"],
        "logged": [loss[name] for name in ("MetricName", "Count", "Min", "Max", "Last")],
        "job": job.name,
        "status": job.describe()["TrainingJobStatus"],
        "model": estimator.model_data,
        "attached": attached.latest_training_job.name,
        "attached_model": attached.model_data,
        "attached_encrypts": attached.encrypt_inter_container_traffic,
        "attached_subnets": attached.subnets,
        "bucket": session.default_bucket(),
    }
    print("FACTS", json.dumps(facts))


main(*sys.argv[1:])
