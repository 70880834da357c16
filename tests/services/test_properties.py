"""Whatever is sent to an operation, through the whole wire and on a real database: no failure inside, no answer that
botocore cannot read, and a request that is refused changes nothing."""

import asyncio
import base64
import itertools
import json
import os
import sqlite3
from datetime import UTC, datetime

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.parsers import create_parser
from botocore.validate import ParamValidator
from generator import Generator, Known
from hypothesis import HealthCheck, Phase, given, settings

from guards import Open
from phalanx.identity import access_keys
from phalanx.identity.directory import Directory
from phalanx.identity.seal import Seal
from phalanx.jobs import series
from phalanx.jobs.keyring import Keyring
from phalanx.services.cloudwatch.service import service as cloudwatch
from phalanx.services.ec2.service import ensure_default_vpc
from phalanx.services.ec2.service import service as ec2
from phalanx.services.iam.service import service as iam
from phalanx.services.kms.service import service as kms
from phalanx.services.logs.service import service as logs
from phalanx.services.sagemaker.service import service as sagemaker
from phalanx.services.sagemaker_metrics.service import service as sagemaker_metrics
from phalanx.services.sts.service import service as sts
from phalanx.store.base import now_ms
from phalanx.store.database import Database, sqlite_url
from phalanx.store.jobs import LogEvent, LogStream
from phalanx.wire.app import application
from phalanx.wire.loader import service_model
from phalanx.wire.sigv4 import Principal

REQUESTS = int(os.environ.get("PHALANX_PROPERTY_REQUESTS", "45"))
"""Requests of each operation in each protocol. There are more than 115 of them, so that a run sends more than 5,000."""
ANSWER_SECONDS = 60
"""An answer that takes longer counts as none: the slowest takes a fraction of a second."""
ACCOUNT, REGION = "123456789012", "us-west-2"
IMAGE = "246618743249.dkr.ecr.us-west-2.amazonaws.com/sagemaker-xgboost:1.7-1"
JOB = {
    "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": "File"},
    "RoleArn": f"arn:aws:iam::{ACCOUNT}:role/Role",
    "OutputDataConfig": {"S3OutputPath": "s3://bucket/output"},
    "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 1},
}
TAGGED = {"ResourceArn": f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:training-job/job-1"}
STREAM = {"logGroupName": "/aws/sagemaker/TrainingJobs", "logStreamName": "job-1/algo-1-1"}
LOGS = {"logGroupName": STREAM["logGroupName"]}
PERMISSIONS = {"IpPermissions": [{"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "10.1.1.9/32"}]}]}
METRIC = {"Namespace": "/aws/sagemaker/TrainingJobs", "MetricName": "loss"}
OF_JOB = {**METRIC, "Dimensions": [{"Name": "TrainingJobName", "Value": "job-1"}]}
AN_HOUR = {"StartTime": datetime(2026, 1, 1, tzinfo=UTC), "EndTime": datetime(2026, 1, 1, 1, tzinfo=UTC)}
TRAINING = {
    "TrainingImage": IMAGE,
    "SupportedTrainingInstanceTypes": ["ml.m5.large"],
    "TrainingChannels": [{"Name": "train", "SupportedContentTypes": ["text/csv"], "SupportedInputModes": ["File"]}],
}
FIXED = {
    ("cloudwatch", "GetMetricData"): {
        "MetricDataQueries": [{"Id": "a", "MetricStat": {"Metric": OF_JOB, "Period": 60, "Stat": "Average"}}],
        **AN_HOUR,
    },
    ("cloudwatch", "GetMetricStatistics"): {**OF_JOB, **AN_HOUR, "Period": 60, "Statistics": ["Average"]},
    ("iam", "SimulatePrincipalPolicy"): {"PolicySourceArn": JOB["RoleArn"]},
    ("sagemaker", "CreateAlgorithm"): {"TrainingSpecification": TRAINING},
    ("sagemaker", "CreateTrainingJob"): JOB,
    ("sagemaker", "AddTags"): TAGGED,
    ("sagemaker", "ListTags"): TAGGED,
    ("sagemaker", "DeleteTags"): TAGGED,
    ("logs", "GetLogEvents"): STREAM,
    ("logs", "FilterLogEvents"): LOGS,
    ("logs", "DescribeLogStreams"): LOGS,
    **{
        ("ec2", f"{verb}SecurityGroup{way}"): PERMISSIONS
        for verb, way in itertools.product(("Authorize", "Revoke"), ("Ingress", "Egress"))
    },
    ("ec2", "CreateSubnet"): {"CidrBlock": "10.7.9.0/28"},
    ("ec2", "CreateTags"): {"Tags": [{"Key": "a", "Value": "b"}]},
}
"""Members without which a request gets nowhere."""
IDS = {"VpcId": "CreateSubnet", "GroupId": "SecurityGroup", "RouteTableId": "Route"}
"""Ids that are given besides, where they are known, to the operations with this in their names."""
FURNITURE = (
    ("sagemaker", "CreateTrainingJob", {"TrainingJobName": "job-1", **JOB, "Tags": [{"Key": "a", "Value": "b"}]}),
    ("sagemaker", "CreateTrainingJob", {"TrainingJobName": "job-2", **JOB}),
    ("sagemaker", "DescribeTrainingJob", {"TrainingJobName": "job-1"}),
    ("sagemaker", "CreateAlgorithm", {"AlgorithmName": "boost", "TrainingSpecification": TRAINING}),
    ("sagemaker", "DescribeAlgorithm", {"AlgorithmName": "boost"}),
    ("sagemaker", "CreateExperiment", {"ExperimentName": "experiment"}),
    ("sagemaker", "CreateTrial", {"TrialName": "trial", "ExperimentName": "experiment"}),
    ("sagemaker", "CreateTrialComponent", {"TrialComponentName": "component"}),
    ("sagemaker", "AssociateTrialComponent", {"TrialName": "trial", "TrialComponentName": "component"}),
    ("sagemaker", "ListExperiments", {}),
    ("sagemaker", "ListTrials", {}),
    ("sagemaker", "ListTrialComponents", {}),
    ("sagemaker", "CreateArtifact", {"ArtifactType": "DataSet", "Source": {"SourceUri": "s3://bucket/curve"}}),
    ("sagemaker", "ListArtifacts", {}),
    ("kms", "CreateKey", {}),
    ("kms", "CreateKey", {"Description": "second"}),
    ("kms", "ListKeys", {}),
    ("ec2", "CreateVpc", {"CidrBlock": "10.7.0.0/16"}),
    ("ec2", "CreateInternetGateway", {}),
    ("ec2", "CreateManagedPrefixList", {"PrefixListName": "p", "MaxEntries": 3, "AddressFamily": "IPv4"}),
    ("ec2", "AllocateAddress", {"Domain": "vpc"}),
    ("ec2", "CreateDhcpOptions", {"DhcpConfigurations": [{"Key": "domain-name", "Values": ["example.com"]}]}),
    ("ec2", "DescribeSubnets", {}),
    ("ec2", "DescribeSecurityGroups", {}),
    ("ec2", "DescribeSecurityGroupRules", {}),
    ("ec2", "DescribeRouteTables", {}),
    ("ec2", "DescribeNetworkAcls", {}),
    ("ec2", "DescribeVpcEndpointServices", {}),
    ("ec2", "DescribeVpcs", {}),
)
"""What is there before the generated requests come."""
MODEL_NOT_YET = 'Missing required parameter in input: "ModelArtifacts"'
"""SageMaker leaves it out until there is a model, although its own model calls it required."""


class Control:
    """A jobs room that finds everything in order."""

    def wake(self):
        pass

    def gpus(self):
        return 4

    def disk_is_encrypted(self):
        return False

    def knows_image(self, uri):
        return True

    def keeps(self, uri):
        return True

    def has_objects(self, uri, role):
        return True

    def network_changed(self, *vpc_ids):
        pass


class Endpoint:
    """The application with all services as `phalanx serve` has them, on a database of its own, called without a network."""

    def __init__(self, path):
        self.database = Database(sqlite_url(path))
        self.database.migrate()
        ensure_default_vpc(self.database, REGION)
        directory = Directory(self.database, Seal(path.with_name("identity.key")), ACCOUNT)
        access_keys.administrators(self.database, directory.seal)
        made = [
            sagemaker(self.database, Control()),
            ec2(self.database, Control()),
            logs(self.database),
            sts(directory),
            iam(directory),
            kms(self.database, Keyring(self.database, path.with_name("root.key"))),
            cloudwatch(self.database),
            sagemaker_metrics(self.database),
        ]
        keys = {"AKIAEXAMPLE": Principal("secret", f"arn:aws:iam::{ACCOUNT}:user/admin", "AIDAEXAMPLE")}
        self.application = application(made, keys.get, ACCOUNT, Open())
        self.known = Known()
        self._watch = sqlite3.connect(path)
        self._loop = asyncio.new_event_loop()

    def version(self):
        """Changes whenever another connection has committed a change (sqlite.org/pragma.html#pragma_data_version)."""
        return self._watch.execute("PRAGMA data_version").fetchone()

    def send(self, service, method, path, headers, body):
        """Sign and send; status, headers and body of the answer."""
        request = AWSRequest(method, f"http://127.0.0.1{path}", headers, body)
        SigV4Auth(Credentials("AKIAEXAMPLE", "secret"), service, REGION).add_auth(request)
        given = [(name.lower().encode(), str(value).encode()) for name, value in request.headers.items()]
        return self._loop.run_until_complete(
            asyncio.wait_for(self._call(method, path, [*given, (b"host", b"127.0.0.1")], body), ANSWER_SECONDS)
        )

    async def _call(self, method, path, headers, body):
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": headers,
            "server": ("127.0.0.1", 80),
        }
        sent = []

        async def receive():
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message):
            sent.append(message)

        await self.application(scope, receive, send)
        answered = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], answered, b"".join(message.get("body", b"") for message in sent[1:])

    def close(self):
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()
        self._watch.close()
        self.database.close()


def operations():
    """Every operation that is served, in every protocol."""
    control = Control()
    made = [sagemaker(None, control), sagemaker_metrics(None), ec2(None, control), logs(None), sts(None), iam(None)]
    made += [kms(None, None), cloudwatch(None)]
    return [
        (service.name, operation, protocol)
        for service in made
        for operation in sorted(service.handlers)
        for protocol in service_model(service.name).metadata["protocols"]
    ]


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory):
    endpoint = Endpoint(tmp_path_factory.mktemp("properties") / "phalanx.db")
    yield endpoint
    endpoint.close()


def exchange(endpoint, model, generator, headers, body):
    """Send a request; what botocore makes of the answer."""
    before = endpoint.version()
    service, method = model.service_model.signing_name, model.http["method"]
    status, answered, content = endpoint.send(service, method, generator.path(model), headers, body)
    answer = {"status_code": status, "headers": answered, "body": content}
    assert status < 500, content
    parsed = create_parser(generator.protocol).parse(answer, model.output_shape)
    if status >= 300:
        assert parsed["Error"]["Code"], content
        assert endpoint.version() == before, f"refused, and yet something was changed: {content}"
        return parsed
    assert "Error" not in parsed
    endpoint.known.learn(parsed)
    if model.output_shape is not None:
        told = {name: value for name, value in parsed.items() if name != "ResponseMetadata"}
        report = ParamValidator().validate(told, model.output_shape)
        assert not report.has_errors() or report.generate_report() == MODEL_NOT_YET, report.generate_report()
    return parsed


def furnish(endpoint):
    """Send the requests of FURNITURE; what is left of an earlier time may stand in the way of some."""
    for service, operation, members in FURNITURE:
        model = service_model(service).operation_model(operation)
        generator = Generator(model.service_model.resolved_protocol, endpoint.known, {})
        yield exchange(endpoint, model, generator, *generator.serialize(model, members))


@pytest.fixture(scope="module")
def furnished(endpoint):
    """The endpoint with something in it of most kinds."""
    for parsed in furnish(endpoint):
        assert "Error" not in parsed
    with endpoint.database.write() as session:
        now, stream = now_ms(), "job-1/algo-1-1"
        session.add(LogStream(name=stream, job="job-1", host="algo-1", created=now, events=1, first_event=now, last_event=now))
        session.flush()
        series.record(session, "job-1", "", [("loss", 0.1, now)], series.MINUTE)
        session.add(LogEvent(stream=stream, number=0, timestamp=now, ingested=now, message="loss=0.1"))
    return endpoint


def test_there_are_as_many_requests_as_promised():
    assert len(operations()) * REQUESTS > 5000


@pytest.mark.parametrize(("service", "operation", "protocol"), operations())
def test_no_request_breaks_the_service(furnished, service, operation, protocol):
    model = service_model(service).operation_model(operation)
    list(furnish(furnished))
    fixed = dict(FIXED.get((service, operation), {}))
    for name, part in IDS.items():
        if model.input_shape and name in model.input_shape.members and part in operation:
            fixed[name] = furnished.known.of(name)[-1]
    generator = Generator(protocol, furnished.known, fixed)

    @settings(
        max_examples=REQUESTS,
        # The same requests in every run of the tests; a longer search finds its own.
        derandomize="PHALANX_PROPERTY_REQUESTS" not in os.environ,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(generator.requests(model))
    def hold(request):
        exchange(furnished, model, generator, request.headers, request.body)

    hold()


TUNING = {
    "HyperParameterTuningJobConfig": {
        "Strategy": "Random",
        "HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": "validation:auc"},
        "ResourceLimits": {"MaxNumberOfTrainingJobs": 2, "MaxParallelTrainingJobs": 1},
        "ParameterRanges": {"ContinuousParameterRanges": [{"Name": "eta", "MinValue": "0.1", "MaxValue": "0.5"}]},
    },
    "TrainingJobDefinition": {**JOB, "StoppingCondition": {"MaxRuntimeInSeconds": 60}},
}


@pytest.mark.parametrize(
    ("operation", "members", "path"),
    [
        ("CreateTrainingJob", JOB, ()),
        ("CreateTrainingJob", JOB, ("ResourceConfig",)),
        ("CreateHyperParameterTuningJob", TUNING, ()),
        ("CreateHyperParameterTuningJob", TUNING, ("TrainingJobDefinition", "ResourceConfig")),
    ],
)
def test_what_only_a_newer_client_knows_is_refused(furnished, operation, members, path):
    model = service_model("sagemaker").operation_model(operation)
    generator = Generator("json", furnished.known, {})
    headers, body = generator.serialize(model, members)
    document = json.loads(body)
    document[f"{operation.removeprefix('Create')}Name"] = f"newer-{len(path)}"
    place = document
    for name in path:
        place = place[name]
    place["NextYearsIsolation"] = {"Enable": True}
    refused = exchange(furnished, model, generator, headers, json.dumps(document).encode())
    assert refused["Error"]["Code"] == "ValidationException"
    assert "NextYearsIsolation" in refused["Error"]["Message"]
    del place["NextYearsIsolation"]
    assert "Error" not in exchange(furnished, model, generator, headers, json.dumps(document).encode())


HUGE = "1" + "0" * 30
TOKENS = [
    "[" * 6000,
    *(f"[{start}{HUGE}{end}]" for start in ("", '"CreationTime",1,') for end in ("", ',"a"', ',"a",1')),
    *(f'[{start}"\\ud800"]' for start in ("", "1,", '"Name",0,', '"CreationTime",1,1,')),
    f'["a","{"[" * 1500}","a"]',
]
"""What tokens of pages hold that no list has given."""


def paged():
    """The operations whose answers come in pages, each in its service's first protocol, and their member for the token."""
    for service, operation, protocol in operations():
        model = service_model(service)
        shape = model.operation_model(operation).input_shape
        for name in {} if shape is None or protocol != model.metadata["protocols"][0] else shape.members:
            if name in ("NextToken", "nextToken", "Marker"):
                yield service, operation, name


@pytest.mark.parametrize(("service", "operation", "member"), list(paged()))
def test_no_made_up_page_token_breaks_the_service(furnished, service, operation, member):
    model = service_model(service).operation_model(operation)
    generator = Generator(model.service_model.metadata["protocols"][0], furnished.known, {})
    members = {name: furnished.known.of(name)[-1] for name in model.input_shape.required_members if furnished.known.of(name)}
    members |= {"Resource": "TrainingJob"} if operation == "Search" else FIXED.get((service, operation), {})
    for text in TOKENS:
        token = base64.urlsafe_b64encode(text.encode()).decode()
        exchange(furnished, model, generator, *generator.serialize(model, {**members, member: token}))
