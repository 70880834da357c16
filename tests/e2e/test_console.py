"""The console in Debian's Chromium: the documented procedure, word for word, in both languages."""

import json
import os
import re
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import expect
from sqlalchemy import delete

from e2e.browser import Chromium
from e2e.conftest import ESP, IMAGE, PHALANX, ROLE, UDP_500, wait_for
from phalanx.jobs import traffic
from phalanx.jobs.explain import End
from phalanx.jobs.preflight import failure_reason, missing_rules
from phalanx.network.model import DIRECTIONS, Rule, SecurityGroup
from phalanx.store.database import Database, sqlite_url
from phalanx.store.jobs import LogEvent, LogStream, TrainingJob

LANGUAGES = {"en": "English", "ja": "日本語"}
PATH = {
    "en": {
        "training": "Training",
        "jobs": "Training jobs",
        "create": "Create training job",
        "network": "Network",
        "vpc": "VPC",
        "encrypt": "Enable inter-container traffic encryption",
    },
    "ja": {
        "training": "トレーニング",
        "jobs": "トレーニングジョブ",
        "create": "トレーニングジョブの作成",
        "network": "ネットワーク",
        "vpc": "VPC",
        "encrypt": "コンテナ間のトラフィック暗号化を有効にする",
    },
}
"""What the documentation tells people to choose, in this order."""


@pytest.fixture(scope="module")
def chromium():
    with Chromium() as browser:
        yield browser


@pytest.fixture(params=["en", "ja"])
def visitor(chromium, phalanx, request):
    who = chromium.visit(phalanx, request.param)
    yield who
    who.page.context.close()
    assert who.complaints == []


def heading(visitor, name):
    """The heading of a part of a page."""
    return visitor.page.get_by_role("heading", name=name, exact=True)


def leave(visitor, path):
    """Open another page from a form that was changed, which asks first."""
    visitor.open(path)
    visitor.page.get_by_role("dialog").get_by_role("button", name=visitor("form.leave"), exact=True).click()


def walk(visitor, name, network):
    """The documented procedure, up to the form as it is to be sent."""
    path = PATH[visitor.language]
    navigation = visitor.page.get_by_role("navigation", name=visitor("nav.label"))
    navigation.get_by_role("link", name=path["training"], exact=True).click()
    navigation.get_by_role("link", name=path["jobs"], exact=True).click()
    visitor.page.get_by_role("button", name=path["create"], exact=True).first.click()
    expect(visitor.page.get_by_role("heading", name=path["create"], exact=True)).to_be_visible()
    visitor.fill(visitor("form.jobName"), name)
    visitor.fill("num_round", "20")
    visitor.fill(visitor("form.s3Location"), "s3://test-bucket/train/")
    visitor.fill(visitor("form.outputPath"), "s3://test-bucket/models")
    expect(visitor.page.get_by_role("heading", name=path["network"], exact=True)).to_be_visible()
    visitor.choose(path["vpc"], visitor.phalanx.vpc_of(network))
    visitor.choose(visitor("network.subnets"), network["Subnets"][0])
    visitor.choose(visitor("network.groups"), network["SecurityGroupIds"][0])
    visitor.page.get_by_role("checkbox", name=path["encrypt"]).check()


def speak(visitor, language):
    """Choose a language at the top; it is expected from then on."""
    visitor.page.get_by_role("button", name=re.compile("|".join(LANGUAGES.values()))).click()
    visitor.page.get_by_role("menuitem", name=LANGUAGES[language], exact=True).click()
    visitor.read(language)


def complete(visitor, name):
    """Send the form and watch the job to its end; DescribeTrainingJob says the rest."""
    visitor.page.get_by_role("button", name=PATH[visitor.language]["create"], exact=True).last.click()
    expect(visitor.page.get_by_role("heading", name=name, exact=True)).to_be_visible()
    job = visitor.phalanx.ended(name)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    visitor.sees(visitor("status.Completed"))
    return job


def test_the_documented_procedure_ends_in_a_completed_encrypted_job(visitor, tmp_path):
    phalanx, language = visitor.phalanx, visitor.language
    network = phalanx.network(UDP_500, ESP)
    name = f"walk-{language}"
    visitor.open()
    visitor.sees(visitor("signIn.where"))
    visitor.picture("sign-in")
    visitor.sign_in()
    walk(visitor, name, network)
    visitor.sees(visitor("check.fine"))
    visitor.page.evaluate("window.scrollTo(0, 0)")
    visitor.picture("create-job")
    visitor.show(heading(visitor, PATH[language]["network"]))
    visitor.picture("create")
    job = complete(visitor, name)
    assert job["EnableInterContainerTrafficEncryption"] is True
    assert job["VpcConfig"] == network
    assert (job["ResourceConfig"]["InstanceCount"], job["HyperParameters"]) == (2, {"num_round": "20"})
    visitor.sees(visitor("said.completed"))
    visitor.picture("job")
    visitor.button("common.dismiss")

    visitor.page.get_by_role("tab", name=visitor("job.encryption"), exact=True).click()
    expect(visitor.page.get_by_role("img", name=re.compile("algo-1.*AES-GCM-256"))).to_be_visible()
    estimated = re.sub(r"\\\{\w+\\\}", ".+", re.escape(visitor.words["cost.estimated"]))
    expect(visitor.page.get_by_text(re.compile(estimated))).to_be_visible()
    visitor.show(visitor.page.get_by_role("tablist"))
    visitor.picture("encryption")
    visitor.page.get_by_role("button", name=visitor("encryption.guards"), exact=True).click()
    for cause in ("why.kernelHolds", "why.routerHolds"):
        visitor.sees(visitor(cause))
    with visitor.page.expect_download() as download:
        visitor.button("encryption.download")
    # Sixteen instances, of which the service has none here: no picture covers another, and all names are in the picture.
    report = many(json.loads(download.value.path().read_text()), 16)
    answer = {"Signed": True, "Report": json.dumps(report)}

    def answered(route) -> None:
        asked = route.request.headers.get("x-amz-target", "")
        route.fulfill(json=answer) if asked == "Phalanx.DescribeTrainingJobEncryption" else route.continue_()

    visitor.page.route(f"{phalanx.env['AWS_ENDPOINT_URL']}/", answered)
    visitor.page.reload()
    visitor.page.get_by_role("tab", name=visitor("job.encryption"), exact=True).click()
    picture = visitor.page.get_by_role("img", name=visitor("graph.many", instances=16, connections=120, broken=1))
    picture.scroll_into_view_if_needed()
    whole = picture.bounding_box()
    for name in range(1, 17):
        part = picture.get_by_text(f"algo-{name}", exact=True).bounding_box()
        for side, size in (("x", "width"), ("y", "height")):
            assert whole[side] <= part[side] <= whole[side] + whole[size] - part[size], name
        picture.get_by_text(f"algo-{name}", exact=True).hover()
        visitor.sees(f"algo-{name} · 10.30.1.{name + 3} · {visitor('graph.blocked', count=0)}")
    visitor.page.unroute_all()
    visitor.page.reload()
    evidence = tmp_path / "evidence.json"
    download.value.save_as(evidence)
    assert subprocess.run([PHALANX, "evidence", "--verify", evidence], check=False).returncode == 0

    visitor.page.get_by_role("tab", name=visitor("job.logs"), exact=True).click()
    expect(visitor.page.get_by_text("train-rmse").first).to_be_visible()
    visitor.show(visitor.page.get_by_role("tablist"))
    visitor.picture("logs")
    visitor.page.get_by_role("tab", name=visitor("job.overview"), exact=True).click()
    with visitor.page.expect_download() as download:
        visitor.button("job.download")
    assert download.value.url.startswith(phalanx.env["AWS_ENDPOINT_URL_S3"])
    assert download.value.path().stat().st_size > 0


def many(report, count):
    """A report of a job of two instances as if it had had `count` of them, one of whose connections is down."""
    hosts = range(1, count + 1)
    pair, instance = report["pairs"][0], report["instances"][0]
    report["instances"] = [{**instance, "host": f"algo-{host}", "address": f"10.30.1.{host + 3}"} for host in hosts]
    ways = [(one, other) for one in hosts for other in hosts if one != other]
    report["pairs"] = [{**pair, "local": f"algo-{one}", "remote": f"algo-{other}"} for one, other in ways]
    report["pairs"][3]["established"] = False
    return report


def test_a_group_without_esp_is_told_and_repaired_in_the_form(visitor):
    network = visitor.phalanx.network(UDP_500)
    name = f"repaired-{visitor.language}"
    visitor.open()
    visitor.sign_in()
    walk(visitor, name, network)
    visitor.sees(visitor("check.ingress.esp"))
    visitor.sees(visitor("check.egress.esp"))
    expect(visitor.page.get_by_text(visitor("check.ingress.ike"))).to_have_count(0)
    visitor.show(heading(visitor, PATH[visitor.language]["network"]))
    visitor.picture("repair")
    with visitor.page.context.expect_page() as groups:
        visitor.page.get_by_role("link", name=re.compile(visitor("network.manageGroups"))).click()
    # Nobody signs in twice.
    expect(groups.value.get_by_role("link", name=network["SecurityGroupIds"][0], exact=True)).to_be_visible()
    groups.value.close()
    visitor.button("check.addAll")
    visitor.sees(visitor("check.fine"))
    complete(visitor, name)
    evidence = visitor.phalanx.evidence(name)
    assert len(evidence["pairs"]) == 2


def test_a_group_is_made_fit_by_the_wizard(visitor):
    network = visitor.phalanx.network(UDP_500)
    group = network["SecurityGroupIds"][0]
    visitor.open()
    visitor.sign_in()
    navigation = visitor.page.get_by_role("navigation", name=visitor("nav.label"))
    navigation.get_by_role("link", name=visitor("groups.title"), exact=True).click()
    visitor.picture("security-groups")
    visitor.page.get_by_role("link", name=group, exact=True).click()
    visitor.sees(visitor("groups.lacks", count=2))
    visitor.button("fit.open")
    visitor.sees(visitor("fit.missing", rule=visitor("check.ingress.esp")))
    visitor.picture("fit")
    visitor.page.get_by_role("button", name={"en": "Next", "ja": "次へ"}[visitor.language], exact=True).click()
    visitor.sees(visitor("fit.will"))
    visitor.button("fit.submit")
    visitor.sees(visitor("groups.isFit"))
    # ESP has no ports: the console says "All", and why.
    visitor.page.get_by_role("button", name=visitor("rules.allPorts"), exact=True).first.click()
    visitor.sees(visitor("rules.espPorts"))
    visitor.picture("security-group")
    ec2 = visitor.phalanx.client("ec2")
    rules = ec2.describe_security_group_rules(Filters=[{"Name": "group-id", "Values": [group]}])
    found = {(rule["IsEgress"], rule["IpProtocol"]) for rule in rules["SecurityGroupRules"]}
    assert found == {(False, "udp"), (True, "udp"), (False, "50"), (True, "50")}
    # A rule names a prefix list as well as a group or a block; what was copied with a space is what was meant.
    listed = ec2.create_managed_prefix_list(PrefixListName=visitor.language, MaxEntries=1, AddressFamily="IPv4")["PrefixList"]
    visitor.page.get_by_role("button", name=visitor("rules.add"), exact=True).first.click()
    dialog = visitor.page.get_by_role("dialog")
    dialog.get_by_label(visitor("rules.source"), exact=True).fill(f" {listed['PrefixListId']} ")
    dialog.get_by_role("button", name=visitor("rules.add"), exact=True).click()
    expect(visitor.page.get_by_role("table", name=visitor("rules.ingress"))).to_contain_text(listed["PrefixListId"])


def test_no_rule_is_said_to_be_missing_before_it_is_known_where_the_instances_are(chromium, phalanx):
    """Out to everywhere, as every new group has it, and IKE and ESP in from the group itself."""
    network = phalanx.network(UDP_500)
    ec2, vpc = phalanx.client("ec2"), phalanx.vpc_of(network)
    group = ec2.create_security_group(GroupName="usual", Description="usual", VpcId=vpc)["GroupId"]
    itself = {"UserIdGroupPairs": [{"GroupId": group}]}
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[{**UDP_500, **itself}, {**ESP, **itself}])
    visitor = chromium.visit(phalanx, "en")
    asked = []
    visitor.page.on("request", lambda request: asked.append("DescribeSecurityGroupRules" in (request.post_data or "")))
    visitor.open("#/create-job")
    visitor.sign_in()
    visitor.choose(visitor("network.vpc"), vpc)
    visitor.page.get_by_role("checkbox", name=visitor("network.encrypt")).check()
    visitor.choose(visitor("network.groups"), group)
    assert not any(asked)
    visitor.choose(visitor("network.subnets"), network["Subnets"][0])
    visitor.sees(visitor("check.fine"))
    expect(visitor.page.get_by_text(visitor("check.missing"))).to_have_count(0)
    visitor.page.context.close()


TUNING = {
    "en": ("Hyperparameter tuning jobs", "Create hyperparameter tuning job"),
    "ja": ("ハイパーパラメータ調整ジョブ", "ハイパーパラメータ調整ジョブの作成"),
}


def test_the_procedure_for_tuning_jobs_ends_in_encrypted_training_jobs(visitor):
    phalanx, path, (jobs, create) = visitor.phalanx, PATH[visitor.language], TUNING[visitor.language]
    network, name = phalanx.network(UDP_500, ESP), f"tune-{visitor.language}"
    visitor.open()
    visitor.sign_in()
    navigation = visitor.page.get_by_role("navigation", name=visitor("nav.label"))
    navigation.get_by_role("link", name=path["training"], exact=True).click()
    navigation.get_by_role("link", name=jobs, exact=True).click()
    visitor.page.get_by_role("button", name=create, exact=True).first.click()
    visitor.fill(visitor("form.jobName"), name)
    visitor.choose(visitor("tuning.objective"), "train:rmse")
    visitor.fill(visitor("tuning.maxJobs"), "2")
    visitor.fill("num_round", "5")
    visitor.fill(visitor("form.outputPath"), "s3://test-bucket/models")
    visitor.button("form.removeChannel", name="validation")
    visitor.fill(visitor("form.s3Location"), "s3://test-bucket/train/")
    visitor.choose(path["vpc"], phalanx.vpc_of(network))
    visitor.choose(visitor("network.subnets"), network["Subnets"][0])
    visitor.choose(visitor("network.groups"), network["SecurityGroupIds"][0])
    visitor.page.get_by_role("checkbox", name=path["encrypt"]).check()
    visitor.sees(visitor("check.fine"))
    visitor.page.evaluate("window.scrollTo(0, 0)")
    visitor.picture("create-tuning")
    visitor.page.get_by_role("button", name=create, exact=True).last.click()
    expect(visitor.page.get_by_role("heading", name=name, exact=True)).to_be_visible()
    sagemaker = phalanx.client("sagemaker")

    def described():
        return sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)

    wait_for(lambda: described()["HyperParameterTuningJobStatus"] != "InProgress", 200, "the tuning job")
    tuning = described()
    assert tuning["HyperParameterTuningJobStatus"] == "Completed", tuning.get("FailureReason")
    definition = tuning["TrainingJobDefinition"]
    assert (definition["EnableInterContainerTrafficEncryption"], definition["VpcConfig"]) == (True, network)
    best = tuning["BestTrainingJob"]["TrainingJobName"]
    expect(visitor.page.get_by_role("link", name=best, exact=True).first).to_be_visible()
    expect(visitor.page.get_by_role("img", name="train:rmse / eta")).to_be_visible()
    visitor.picture("tuning")
    assert len(phalanx.evidence(best)["pairs"]) == 2
    # What it was created with shows, and its training jobs are sorted by how good they are.
    for shown in (network["Subnets"][0], "s3://test-bucket/train/", tuning["HyperParameterTuningJobArn"]):
        visitor.sees(shown)
    link = visitor.page.get_by_role("link", name=network["SecurityGroupIds"][0], exact=True)
    expect(link).to_have_attribute("href", f"#/security-groups/{network['SecurityGroupIds'][0]}")
    (eta,) = tuning["HyperParameterTuningJobConfig"]["ParameterRanges"]["ContinuousParameterRanges"]
    ranges = visitor.page.get_by_role("table", name=visitor("tuning.ranges"), exact=True)
    expect(ranges).to_contain_text(re.compile(f"{eta['MinValue']} . {eta['MaxValue']}"))
    children = visitor.page.get_by_role("table", name=visitor("jobs.title"), exact=True)
    children.get_by_role("button", name="train:rmse").press("Enter")
    expect(children.get_by_role("row").nth(1)).to_contain_text(best)
    visitor.button("form.addTag")
    visitor.page.get_by_role("textbox", name=visitor("form.key"), exact=True).fill("team")
    visitor.button("common.save")
    visitor.sees(visitor("job.tagsSaved"))
    assert sagemaker.list_tags(ResourceArn=tuning["HyperParameterTuningJobArn"])["Tags"] == [{"Key": "team", "Value": ""}]

    # A copy that goes on from it, as code.
    visitor.button("jobs.clone")
    expect(visitor.page.get_by_label(visitor("form.jobName"), exact=True)).to_have_value(f"{name}-2")
    visitor.page.get_by_role("button", name=re.compile(f"^{visitor('tuning.warm')}")).click()
    visitor.choose(visitor("tuning.parents"), name)
    visitor.button("code.view")
    code = visitor.page.get_by_label("boto3", exact=True).last.inner_text()
    assert "WarmStartConfig={" in code
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, **phalanx.env}, timeout=60)
    sagemaker.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName=f"{name}-2")
    copy = sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=f"{name}-2")
    assert copy["TrainingJobDefinition"] == definition
    assert copy["WarmStartConfig"]["ParentHyperParameterTuningJobs"] == [{"HyperParameterTuningJobName": name}]
    leave(visitor, f"#/tuning/{name}-2")
    visitor.sees(visitor("tuning.IdenticalDataAndAlgorithm"))
    expect(visitor.page.get_by_role("link", name=name, exact=True)).to_have_attribute("href", f"#/tuning/{name}")
    visitor.open("#/tuning")
    visitor.page.get_by_role("radio", name=name, exact=True).check()
    visitor.picture("tuning-jobs")
    visitor.button("common.actions")
    visitor.page.get_by_role("menuitem", name=visitor("common.delete"), exact=True).click()
    visitor.page.get_by_role("dialog").get_by_role("button", name=visitor("common.delete"), exact=True).click()
    visitor.sees(visitor("tuning.deleted", name=name))
    expect(visitor.page.get_by_role("link", name=name, exact=True)).to_have_count(0)


def test_ten_thousand_jobs_are_read_a_page_at_a_time(chromium, phalanx):
    database = Database(sqlite_url(phalanx.data_dir / "phalanx.db"))
    with database.write() as session:
        for number in range(10_000):
            name = f"many-{number:05}"
            job = {"name": name, "arn": f"arn:aws:sagemaker:us-west-2:123456789012:training-job/{name}", "request": {}}
            times = {"created": number, "modified": number, "instances": 1, "encrypted": False, "stage": "ended"}
            session.add(TrainingJob(**job, **times, status="Stopped", secondary_status="Stopped"))
    visitor = chromium.visit(phalanx, "en")
    asked = []
    visitor.page.on("request", lambda request: asked.append(request.headers.get("x-amz-target", "")))
    visitor.open()
    visitor.sign_in()
    table = visitor.page.get_by_role("table", name=visitor("jobs.title"))
    expect(table.get_by_role("row")).to_have_count(26)
    visitor.page.get_by_label(visitor("jobs.find")).fill("many-0123")
    expect(table.get_by_role("row")).to_have_count(11)
    visitor.page.get_by_label(visitor("jobs.find")).fill("many-")
    expect(table.get_by_text("many-09999")).to_be_visible()
    # Another filter has the same first page, which leads on no less.
    with visitor.page.expect_response(lambda response: '"any-"' in (response.request.post_data or "")):
        visitor.page.get_by_label(visitor("jobs.find")).fill("any-")
    visitor.page.get_by_role("button", name="Next page").click()
    expect(table.get_by_text("many-09974")).to_be_visible()
    visitor.page.get_by_label(visitor("jobs.find")).fill("many_")
    visitor.sees(visitor("jobs.inAName"))
    assert asked.count("SageMaker.ListTrainingJobs") < 14
    # Whoever comes back, or loads the page anew, finds the list as it was.
    visitor.fill(visitor("jobs.find"), "any-")
    table.get_by_role("button", name=visitor("jobs.name"), exact=True).press("Enter")
    expect(table.get_by_text("many-00000")).to_be_visible()
    visitor.page.get_by_role("button", name="Next page").click()
    expect(table.get_by_text("many-00025")).to_be_visible()
    visitor.open("#/security-groups")
    expect(visitor.page.get_by_role("heading", name=visitor("groups.title"), exact=True)).to_be_visible()
    visitor.page.go_back()
    for _ in range(2):
        expect(table.get_by_text("many-00025")).to_be_visible()
        expect(visitor.page.get_by_label(visitor("jobs.find"))).to_have_value("any-")
        visitor.page.reload()
    navigation = visitor.page.get_by_role("navigation", name=visitor("nav.label"))
    navigation.get_by_role("link", name=visitor("tunings.title"), exact=True).click()
    navigation.get_by_role("link", name=visitor("jobs.title"), exact=True).click()
    expect(table.get_by_text("many-00025")).to_have_count(0)
    expect(visitor.page.get_by_label(visitor("jobs.find"))).to_have_value("")
    assert visitor.complaints == []
    visitor.page.context.close()
    with database.write() as session:
        session.execute(delete(TrainingJob).where(TrainingJob.name.like("many-%")))
    database.close()


def test_a_job_whose_network_is_gone_is_copied_all_the_same(chromium, phalanx):
    network = phalanx.network(UDP_500, ESP)
    phalanx.create("of-a-lost-network", instances=1, network=network, Environment={"COLOUR": "blue"})
    phalanx.ended("of-a-lost-network")
    ec2 = phalanx.client("ec2")
    (group,), (subnet,) = network["SecurityGroupIds"], network["Subnets"]
    ec2.delete_security_group(GroupId=group)
    ec2.delete_subnet(SubnetId=subnet)
    visitor = chromium.visit(phalanx, "en")
    visitor.open("#/create-job/of-a-lost-network")
    visitor.sign_in()
    expect(visitor.page.get_by_role("alert")).to_contain_text("InvalidSubnetID.NotFound")
    expect(visitor.page.get_by_label(visitor("form.jobName"), exact=True)).to_have_value("of-a-lost-network-2")
    expect(visitor.page.get_by_label(visitor("form.value"), exact=True)).to_have_value("blue")
    # It is not sent into another network than its own before somebody has chosen one.
    visitor.sees(subnet)
    visitor.page.get_by_role("alert").get_by_role("button").click()
    visitor.button("create.submit")
    expect(visitor.page.get_by_role("alert")).to_contain_text(subnet)
    visitor.choose(visitor("network.vpc"), visitor("network.none"))
    visitor.button("create.submit")
    visitor.sees(visitor("create.created", name="of-a-lost-network-2"))
    assert "VpcConfig" not in phalanx.ended("of-a-lost-network-2")
    visitor.page.context.close()


def test_texts_of_any_length_stay_within_their_columns(chromium, phalanx):
    long = {
        "objective": "reg:squarederror",
        "num_round": "3",
        "x" * 250: "y" * 2400,
        "paths": '["s3://test-bucket/train/"]' * 90,
    }
    phalanx.create("long", instances=1, HyperParameters=long, Environment={"Z" * 500: "w" * 500})
    phalanx.ended("long")
    visitor = chromium.visit(phalanx, "ja")
    visitor.open("#/jobs/long")
    visitor.sign_in()
    for width in (1440, 400):
        visitor.page.set_viewport_size({"width": width, "height": 900})
        for title in ("form.hyperparameters", "form.environment"):
            table = visitor.page.get_by_role("table", name=visitor(title), exact=True)
            expect(table).to_be_visible()
            assert table.bounding_box()["width"] < max(width, 480), title
        history = visitor.page.get_by_role("table", name=visitor("job.transitions"), exact=True)
        assert max(row.bounding_box()["height"] for row in history.get_by_role("row").all()) < 120
    visitor.page.context.close()


def test_an_answer_of_a_proxy_whose_service_is_away_is_told_by_its_status(chromium, phalanx):
    phalanx.create("behind", instances=1)
    phalanx.ended("behind")
    visitor = chromium.visit(phalanx, "en")
    visitor.open("#/jobs/behind")
    visitor.sign_in()
    expect(visitor.page.get_by_role("heading", name="behind", exact=True)).to_be_visible()
    page, body = visitor.page, "<html><body>Bad gateway</body></html>"
    page.route(
        f"{phalanx.env['AWS_ENDPOINT_URL']}/", lambda route: route.fulfill(status=502, body=body, content_type="text/html")
    )
    page.get_by_role("tab", name=visitor("job.encryption"), exact=True).click()
    expect(page.get_by_role("tabpanel").get_by_text("HTTP 502", exact=True)).to_be_visible()
    for path in ("#/jobs", "#/security-groups"):
        visitor.open(path)
        visitor.sees(visitor("common.unanswered"))
        expect(page.get_by_text("HTTP 502", exact=True)).to_be_visible()
    page.unroute_all()
    expect(page.get_by_text("HTTP 502", exact=True)).to_have_count(0)
    page.context.close()


def test_why_a_program_failed_is_said_in_the_lines_that_it_wrote(chromium, phalanx):
    program = ["sh", "-c", r"printf 'Traceback:\n  in mine.py' > /opt/ml/output/failure; exit 1"]
    algorithm = {"TrainingImage": IMAGE, "TrainingInputMode": "File", "ContainerEntrypoint": program}
    phalanx.create("traced", instances=1, AlgorithmSpecification=algorithm, HyperParameters=None)
    assert "Traceback:\n  in mine.py" in phalanx.ended("traced")["FailureReason"]
    visitor = chromium.visit(phalanx, "en")
    visitor.open("#/jobs/traced")
    visitor.sign_in()
    visitor.sees("AlgorithmError")
    assert "Traceback:\n  in mine.py" in visitor.page.get_by_text("AlgorithmError").first.inner_text()
    visitor.page.context.close()


def test_a_log_that_grows_is_followed_until_somebody_reads_in_it(chromium, phalanx):
    database = Database(sqlite_url(phalanx.data_dir / "phalanx.db"))
    stream = "talking/algo-1-1"
    with database.write() as session:
        request = {
            "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": "File"},
            "RoleArn": ROLE,
            "OutputDataConfig": {"S3OutputPath": "s3://test-bucket/models"},
            "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
            "StoppingCondition": {"MaxRuntimeInSeconds": 300},
        }
        job = {"name": "talking", "arn": "arn:aws:sagemaker:us-west-2:123456789012:training-job/talking", "request": request}
        times = {"created": 1, "modified": 1, "instances": 1, "encrypted": False, "stage": "ended"}
        session.add(TrainingJob(**job, **times, status="InProgress", secondary_status="Training"))
        session.flush()
        session.add(LogStream(name=stream, job="talking", host="algo-1", created=1))

    def write(count: int) -> None:
        with database.write() as session:
            row = session.get(LogStream, stream)
            for number in range(row.events, row.events + count):
                session.add(LogEvent(stream=stream, number=number, timestamp=1, ingested=1, message=f"line {number}"))
            row.events += count
            row.first_event = row.last_event = row.last_ingestion = 1

    def last() -> str:
        with database.read() as session:
            return f"line {session.get(LogStream, stream).events - 1}"

    write(5100)
    visitor = chromium.visit(phalanx, "en")
    visitor.open("#/jobs/talking")
    visitor.sign_in()
    visitor.page.get_by_role("tab", name=visitor("job.logs"), exact=True).click()
    log = visitor.page.locator("pre.log")
    expect(log).to_be_visible()
    visitor.show(visitor.page.get_by_role("tablist"))
    follow = visitor.page.get_by_role("checkbox", name=visitor("logs.follow"), exact=True)
    expect(log.get_by_text("line 5099")).to_be_in_viewport()
    write(10)
    expect(log.get_by_text("line 5109")).to_be_in_viewport()
    # Whoever goes back to read sees the same lines, though as many as come are let go at the other end.
    log.hover()
    visitor.page.mouse.wheel(0, -3000)
    expect(follow).not_to_be_checked()
    line = log.locator("div").filter(has_text="line 4980")
    line.scroll_into_view_if_needed()
    place = line.bounding_box()
    for _ in range(2):
        write(100)
        visitor.sees(last())
    assert line.bounding_box() == place
    visitor.page.mouse.wheel(0, 100_000)
    expect(follow).to_be_checked()
    write(10)
    expect(log.get_by_text(last())).to_be_in_viewport()
    visitor.page.context.close()
    with database.write() as session:
        session.execute(delete(TrainingJob).where(TrainingJob.name == "talking"))
    database.close()


def test_a_job_is_cloned_and_its_code_runs(chromium, phalanx):
    """What "view as code" shows for boto3 is what the form would send: run, it creates the same job."""
    rounds = {"objective": "binary:logistic", "eval_metric": "auc", "num_round": "2000"}
    elsewhere = "354813040037.dkr.ecr.ap-northeast-1.amazonaws.com/sagemaker-xgboost:1.5-1"
    algorithm = {"TrainingImage": elsewhere, "TrainingInputMode": "File"}
    tags = [{"Key": "team", "Value": "blue"}]
    output = {"S3OutputPath": "s3://test-bucket/run (1)'s"}
    members = {"AlgorithmSpecification": algorithm, "HyperParameters": rounds, "OutputDataConfig": output, "Tags": tags}
    phalanx.create("original", instances=1, **members)
    original = phalanx.ended("original")
    visitor = chromium.visit(phalanx, "en", dark=True)
    visitor.open("#/jobs/original")
    visitor.sign_in()
    visitor.page.get_by_role("tab", name=visitor("job.metrics"), exact=True).click()
    visitor.sees("train:auc")
    visitor.picture("metrics-dark")
    visitor.button("head.light")
    visitor.picture("metrics")
    visitor.button("jobs.clone")
    groups = visitor.page.get_by_role("checkbox", name=visitor("form.instanceGroups"), exact=True)
    groups.check()
    expect(visitor.page.get_by_role("textbox", name=visitor("form.instanceGroup"), exact=True)).to_have_value("group-1")
    visitor.check_accessibility()
    groups.uncheck()
    visitor.button("code.view")
    code = visitor.page.get_by_label("boto3", exact=True).last.inner_text()
    visitor.picture("code")
    environment = {**os.environ, **phalanx.env}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=60)
    copy = phalanx.describe("original-2")
    same = "AlgorithmSpecification HyperParameters InputDataConfig OutputDataConfig ResourceConfig StoppingCondition"
    for member in same.split():
        assert copy[member] == original[member], member
    assert phalanx.client("sagemaker").list_tags(ResourceArn=copy["TrainingJobArn"])["Tags"] == tags
    leave(visitor, "#/jobs/original-2")
    visitor.button("jobs.stop")
    visitor.page.get_by_role("dialog").get_by_role("button", name=visitor("jobs.stop"), exact=True).click()
    assert phalanx.ended("original-2")["TrainingJobStatus"] in ("Stopped", "Completed")
    visitor.button("common.delete")
    visitor.page.get_by_role("dialog").get_by_role("button", name=visitor("common.delete"), exact=True).click()
    visitor.sees(visitor("jobs.deleted", name="original-2"))
    visitor.sees("original")
    expect(visitor.page).to_have_title(f"{visitor('jobs.title')} · Phalanx")
    visitor.page.reload()
    visitor.sees("original")
    visitor.picture("jobs")

    # The same in Japanese, chosen at the top.
    speak(visitor, "ja")
    visitor.sees(visitor("jobs.description"))
    visitor.picture("jobs")
    visitor.open("#/jobs/original")
    visitor.button("code.view")
    visitor.sees(visitor("code.hint"))
    assert '"Key": "team"' in visitor.page.get_by_label("boto3", exact=True).last.inner_text()
    visitor.picture("code")
    visitor.button("common.close")
    visitor.page.get_by_role("tab", name=visitor("job.metrics"), exact=True).click()
    visitor.sees("train:auc")
    visitor.picture("metrics")
    assert visitor.complaints == []

    # A clock that is an hour ahead.
    visitor.page.clock.set_fixed_time(datetime.now(UTC) + timedelta(hours=1))
    visitor.page.reload()
    visitor.page.get_by_role("tab", name=visitor("job.encryption"), exact=True).click()
    visitor.sees(visitor("encryption.single"))
    visitor.page.get_by_role("tab", name=visitor("job.overview"), exact=True).click()
    with visitor.page.expect_download() as download:
        visitor.button("job.download")
    assert download.value.path().stat().st_size > 0
    # Of a model that is gone S3 says so, in a tab of its own; a second later, for the same URL the browser has in its cache.
    time.sleep(1)
    visitor.page.clock.set_fixed_time(datetime.now(UTC) + timedelta(hours=1))
    key = original["ModelArtifacts"]["S3ModelArtifacts"].removeprefix("s3://test-bucket/")
    phalanx.client("s3").delete_object(Bucket="test-bucket", Key=key)
    with visitor.page.context.expect_page() as refused:
        visitor.button("job.download")
    expect(refused.value.get_by_text("NoSuchKey").first).to_be_attached()
    expect(heading(visitor, "original")).to_be_visible()
    visitor.page.context.close()


def test_an_algorithm_resource_brings_its_hyperparameters(chromium, phalanx):
    whole = {"IntegerParameterRangeSpecification": {"MinValue": "1", "MaxValue": "100"}}
    training = {
        "TrainingImage": IMAGE,
        "SupportedTrainingInstanceTypes": ["ml.m5.large"],
        "SupportsDistributedTraining": True,
        "TrainingChannels": [{"Name": "train", "SupportedContentTypes": ["text/csv"], "SupportedInputModes": ["File"]}],
        "SupportedHyperParameters": [
            {"Name": "num_round", "Type": "Integer", "Range": whole, "IsRequired": True, "DefaultValue": "10"}
        ],
    }
    arn = phalanx.client("sagemaker").create_algorithm(AlgorithmName="mine", TrainingSpecification=training)["AlgorithmArn"]
    visitor = chromium.visit(phalanx, "en")
    visitor.open("#/create-job")
    visitor.fill(visitor("signIn.region"), "eu-west-1")
    visitor.sign_in()
    # The service makes one bucket, of its own region.
    expect(visitor.page.get_by_label(visitor("form.outputPath"), exact=True)).to_have_value(
        "s3://sagemaker-us-west-2-123456789012/output"
    )
    visitor.page.get_by_role("radio", name=visitor("form.resource")).check()
    visitor.choose(visitor("form.algorithm"), "mine")
    expect(visitor.page.get_by_label("num_round", exact=True)).to_have_value("10")
    visitor.sees(visitor("form.wholeIn", range="[1, 100]"))
    visitor.check_accessibility()
    visitor.button("code.view")
    assert f'"AlgorithmName": "{arn}"' in visitor.page.get_by_label("boto3", exact=True).last.inner_text()
    assert visitor.complaints == []
    visitor.page.context.close()


def test_a_key_that_nobody_has_is_refused_in_words(chromium, phalanx):
    visitor = chromium.visit(phalanx, "ja")
    visitor.open()
    visitor.fill(visitor("signIn.accessKeyId"), "AKIANOBODY")
    visitor.fill(visitor("signIn.secret"), "secret")
    visitor.button("signIn.submit")
    visitor.sees(visitor.words["signIn.refused"].split("(")[0])
    assert visitor.page.evaluate("sessionStorage.length") == 0
    visitor.page.context.close()


def test_a_role_that_was_assumed_signs_in_until_its_token_expires(chromium, phalanx):
    iam = phalanx.client("iam")
    trust = {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::123456789012:root"}, "Action": "sts:AssumeRole"}
    arn = iam.create_role(
        RoleName="Analyst", AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    )["Role"]["Arn"]
    everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [everything]})
    iam.put_role_policy(RoleName="Analyst", PolicyName="all", PolicyDocument=document)
    lent = phalanx.client("sts").assume_role(RoleArn=arn, RoleSessionName="kim")["Credentials"]
    phalanx.create("lent", instances=1)
    phalanx.ended("lent")
    visitor = chromium.visit(phalanx, "en")
    visitor.open("#/jobs/lent")
    visitor.fill(visitor("signIn.accessKeyId"), lent["AccessKeyId"])
    visitor.fill(visitor("signIn.secret"), lent["SecretAccessKey"])
    visitor.page.get_by_label(visitor("signIn.token")).fill(lent["SessionToken"])
    visitor.check_accessibility()
    visitor.button("signIn.submit")
    expect(visitor.page.get_by_role("button", name="Analyst/kim")).to_be_visible()
    # Every way that requests are signed has the token: the SDK's, the console's own, and the URL of a download.
    with visitor.page.expect_download() as download:
        visitor.button("job.download")
    assert download.value.path().stat().st_size > 0
    visitor.page.get_by_role("tab", name=visitor("job.encryption"), exact=True).click()
    visitor.sees(visitor("encryption.single"))
    assert visitor.complaints == []
    expired = {"__type": "ExpiredTokenException", "message": "The security token included in the request is expired"}
    visitor.page.route(f"{phalanx.env['AWS_ENDPOINT_URL']}/", lambda route: route.fulfill(json=expired, status=400))
    visitor.button("common.refresh")
    visitor.sees(visitor("signIn.again", reason=f"ExpiredTokenException: {expired['message']}"))
    visitor.page.context.close()


def test_a_refusal_is_said_where_it_is_seen_and_loses_nothing(chromium, phalanx):
    """Every JSON operation but those in `answers` is refused; EC2 answers itself."""
    job = {
        "TrainingJobName": "mine",
        "TrainingJobArn": "arn:aws:sagemaker:us-west-2:123456789012:training-job/mine",
        "TrainingJobStatus": "Completed",
        "CreationTime": 1_700_000_000,
        "EnableInterContainerTrafficEncryption": True,
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 1},
    }
    report = {"encryption_requested": True, "encrypted": False, "ran": False, "measured_at": 0, "plaintext_packets_dropped": 0}
    report |= {"instances": [], "pairs": [], "gaps": []}
    report["earlier_attempts"] = [{**report, "ran": True, "gaps": ["algo-2 was gone"]}]
    running = {**job, "TrainingJobName": "running", "TrainingJobStatus": "InProgress"}
    answers = {
        "DescribeTrainingJob": job,
        "DescribeTrainingJobEncryption": {"Signed": True, "Report": json.dumps(report)},
        "ListTags": {"Tags": [{"Key": "team", "Value": "blue"}]},
        "ListTrainingJobs": {"TrainingJobSummaries": [job, running]},
    }
    refusal = {"__type": "AccessDeniedException", "message": "Nobody may."}
    asked = []

    def answer(route):
        operation = route.request.headers.get("x-amz-target", "").rpartition(".")[2]
        asked.append(operation)
        if operation in answers:
            route.fulfill(json=answers[operation])
        elif operation:
            route.fulfill(json=refusal, status=400)
        else:
            route.continue_()

    visitor = chromium.visit(phalanx, "en")
    page = visitor.page
    visitor.open()
    visitor.sign_in()
    expect(page.get_by_role("table")).to_be_visible()
    page.route(f"{phalanx.env['AWS_ENDPOINT_URL']}/", answer)

    # A row that goes while it is asked about.
    visitor.button("common.refresh")
    page.get_by_role("radio", name="mine", exact=True).check()
    visitor.button("common.actions")
    page.get_by_role("menuitem", name=visitor("common.delete"), exact=True).click()
    answers["ListTrainingJobs"] = {"TrainingJobSummaries": [running]}
    expect(page.get_by_text("mine", exact=True)).to_have_count(0)
    visitor.sees(visitor("jobs.deleteTitle", name="mine"))
    del answers["ListTrainingJobs"]

    # A program that does not load.
    program = "**/assets/TuningJobs-*.js"
    page.route(program, lambda route: route.abort())
    visitor.open("#/tuning")
    visitor.sees(visitor("common.broken"))
    visitor.check_accessibility()
    page.unroute(program)
    visitor.button("common.reload")
    visitor.sees(refusal["message"])
    expect(page.get_by_text(visitor("tunings.none"))).to_have_count(0)

    visitor.open("#/jobs/mine")
    page.get_by_role("tab", name=visitor("job.logs"), exact=True).click()
    visitor.sees(refusal["message"])
    expect(page.get_by_text(visitor("logs.none"))).to_have_count(0)
    page.get_by_role("tab", name=visitor("job.encryption"), exact=True).click()
    visitor.sees(refusal["message"])
    expect(page.get_by_text(visitor("cost.noTwin"))).to_have_count(0)
    visitor.sees(visitor("encryption.gaps"))
    expect(page.get_by_role("table", name=visitor("attempts.title"))).to_contain_text("algo-2 was gone")

    # What changed rules do to a running job is said above all tabs, for as long as they do.
    ends = [End.at("algo-1", "10.0.0.4", ["sg-1"]), End.at("algo-2", "10.0.0.5", ["sg-1"])]
    only_ike = tuple(Rule(direction, "17", 500, 500, group="sg-1") for direction in DIRECTIONS)
    missing = missing_rules(ends, [SecurityGroup("sg-1", only_ike)])
    reason = failure_reason(missing).removeprefix("ClientError: ")
    last = {"Status": "Training", "StartTime": 1_700_000_000, "StatusMessage": f"{traffic.STOPPED}{reason}"}
    network = {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]}
    stopped = {**running, "SecondaryStatus": "Training", "SecondaryStatusTransitions": [last], "VpcConfig": network}
    answers["DescribeTrainingJob"] = stopped
    visitor.button("common.refresh")
    visitor.sees(visitor("traffic.stopped"))
    visitor.sees(reason)
    expect(page.get_by_role("link", name="sg-1", exact=True)).to_be_visible()
    visitor.sees(visitor("status.Training"))
    speak(visitor, "ja")
    for direction in DIRECTIONS:
        visitor.sees(visitor(f"check.{direction}.esp"))
    expect(page.get_by_text(re.compile("has no|An encrypted job|Run:"))).to_have_count(0)
    speak(visitor, "en")
    last["StatusMessage"] = traffic.FLOWS
    expect(page.get_by_text(visitor("traffic.stopped"))).to_have_count(0)

    # All that the form offers shows.
    stopped |= {
        "AlgorithmSpecification": {"TrainingImage": IMAGE, "ContainerEntrypoint": ["python3", "mine.py"]},
        "TuningJobArn": "arn:aws:sagemaker:us-west-2:123456789012:hyper-parameter-tuning-job/parent",
        "EnableManagedSpotTraining": True,
        "StoppingCondition": {"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 7200},
        "TrainingTimeInSeconds": 100,
        "BillableTimeInSeconds": 30,
        "CheckpointConfig": {"S3Uri": "s3://test-bucket/kept"},
        "Environment": {"COLOUR": "blue"},
        "WarmPoolStatus": {"Status": "Reused", "ResourceRetainedBillableTimeInSeconds": 5, "ReusedByJob": "next"},
    }
    page.get_by_role("tab", name=visitor("job.overview"), exact=True).click()
    for shown in ("python3 mine.py", "2 h", "30 s", "70 %", "s3://test-bucket/kept", "COLOUR", visitor("warm.Reused")):
        visitor.sees(shown)
    for name, page_of in (("parent", "#/tuning/parent"), ("next", "#/jobs/next")):
        expect(page.get_by_role("link", name=name, exact=True)).to_have_attribute("href", page_of)

    page.get_by_role("tab", name=visitor("job.tags"), exact=True).click()
    visitor.button("common.remove")
    visitor.button("form.addTag")
    key = page.get_by_role("textbox", name=visitor("form.key"), exact=True)
    key.fill("colour")
    visitor.button("common.save")
    expect(page.get_by_role("alert")).to_be_in_viewport()
    expect(key).to_have_value("colour")
    assert "DeleteTags" not in asked

    # The service itself refuses a rule that is there, and is asked once to delete it.
    revoked = []
    page.on("request", lambda request: revoked.append("Action=RevokeSecurityGroupIngress" in (request.post_data or "")))
    visitor.open(f"#/security-groups/{phalanx.network(UDP_500)['SecurityGroupIds'][0]}")
    page.get_by_role("button", name=visitor("rules.add"), exact=True).first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name=visitor("rules.add"), exact=True).click()
    expect(dialog.get_by_text("InvalidPermission.Duplicate")).to_be_visible()
    visitor.check_accessibility()
    dialog.get_by_role("button", name=visitor("common.cancel"), exact=True).click()
    page.get_by_role("table", name=visitor("rules.ingress")).get_by_role("checkbox").last.check()
    page.get_by_role("button", name=visitor("rules.revoke"), exact=True).first.dblclick()
    visitor.sees(visitor("rules.revoked", count=1))
    assert sum(revoked) == 1

    # The button is at the end of a long form: what is wrong is led to, in a part that is folded away as well.
    visitor.open("#/create-job")
    visitor.button("create.submit")
    expect(page.get_by_label(visitor("form.jobName"), exact=True)).to_be_focused()
    visitor.fill(visitor("form.jobName"), "mine")
    visitor.fill("num_round", "20")
    visitor.fill(visitor("form.s3Location"), "s3://test-bucket/train/")
    metrics = page.get_by_role("button", name=visitor("form.metrics"), exact=True)
    metrics.click()
    visitor.button("form.addMetric")
    metrics.click()
    metric = page.get_by_role("textbox", name=visitor("form.metricName"), exact=True)
    expect(metric).to_have_count(0)
    visitor.button("create.submit")
    expect(metric).to_be_focused()
    visitor.button("common.remove")
    # What was typed is not left out of the request without a word.
    visitor.button("form.addVariable")
    visitor.fill(visitor("form.value"), "blue")
    visitor.button("create.submit")
    expect(page.get_by_role("textbox", name=visitor("form.key"), exact=True)).to_be_focused()
    assert "CreateTrainingJob" not in asked
    visitor.button("common.remove")
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 900})
        page.get_by_role("alert").get_by_role("button").click()
        expect(page.get_by_role("alert")).to_have_count(0)
        visitor.button("create.submit")
        expect(page.get_by_role("alert")).to_be_in_viewport()
    # Whoever is about to leave a form that was changed is asked, and may stay.
    visitor.open("#/jobs")
    page.get_by_role("dialog").get_by_role("button", name=visitor("common.cancel"), exact=True).click()
    expect(page.get_by_label(visitor("form.jobName"), exact=True)).to_have_value("mine")
    page.go_back()
    expect(page.get_by_role("dialog")).to_be_visible()
    page.get_by_role("dialog").get_by_role("button", name=visitor("common.cancel"), exact=True).click()
    expect(page.get_by_label(visitor("form.jobName"), exact=True)).to_have_value("mine")
    leave(visitor, "#/create-tuning")
    assert page.get_by_label(visitor("tuning.min"), exact=True).bounding_box()["width"] > 100

    # A key that is no more leads to sign-in, and nothing of before shows after it.
    refusal["__type"] = "UnrecognizedClientException"
    visitor.open("#/jobs")
    visitor.sees(visitor("signIn.where"))
    visitor.sees(visitor("signIn.again", reason=f"UnrecognizedClientException: {refusal['message']}"))
    expect(page).to_have_title(f"{visitor('signIn.title')} · Phalanx")
    page.unroute_all()
    visitor.sign_in()
    expect(page.get_by_role("table")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)
    page.context.close()
