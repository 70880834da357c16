"""The console in Debian's Chromium: the documented procedure, word for word, in both languages."""

import re
import subprocess

import pytest
from playwright.sync_api import expect

from e2e.browser import Chromium
from e2e.conftest import ESP, PHALANX, UDP_500

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


def section(visitor, name):
    """The part of a form under a heading."""
    heading = visitor.page.get_by_role("heading", name=name, exact=True)
    return visitor.page.locator("[class*=awsui_root]").filter(has=heading).last


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
    section(visitor, PATH[language]["network"]).scroll_into_view_if_needed()
    visitor.picture("create")
    job = complete(visitor, name)
    assert job["EnableInterContainerTrafficEncryption"] is True
    assert job["VpcConfig"] == network
    assert (job["ResourceConfig"]["InstanceCount"], job["HyperParameters"]) == (2, {"num_round": "20"})
    visitor.sees("Training job completed")
    visitor.picture("job")

    visitor.page.get_by_role("tab", name=visitor("job.encryption"), exact=True).click()
    expect(visitor.page.get_by_role("img", name=re.compile("algo-1.*AES-GCM-256"))).to_be_visible()
    visitor.picture("encryption")
    with visitor.page.expect_download() as download:
        visitor.button("encryption.download")
    evidence = tmp_path / "evidence.json"
    download.value.save_as(evidence)
    assert subprocess.run([PHALANX, "evidence", "--verify", evidence], check=False).returncode == 0

    visitor.page.get_by_role("tab", name=visitor("job.logs"), exact=True).click()
    expect(visitor.page.get_by_text("train-rmse").first).to_be_visible()
    visitor.picture("logs")
    visitor.page.get_by_role("tab", name=visitor("job.overview"), exact=True).click()
    with visitor.page.expect_download() as download:
        visitor.button("job.download")
    assert download.value.url.startswith(phalanx.env["AWS_ENDPOINT_URL_S3"])
    assert download.value.path().stat().st_size > 0


def test_a_group_without_esp_is_told_and_repaired_in_the_form(visitor):
    network = visitor.phalanx.network(UDP_500)
    name = f"repaired-{visitor.language}"
    visitor.open()
    visitor.sign_in()
    walk(visitor, name, network)
    visitor.sees(visitor("check.ingress.esp"))
    visitor.sees(visitor("check.egress.esp"))
    expect(visitor.page.get_by_text(visitor("check.ingress.ike"))).to_have_count(0)
    section(visitor, PATH[visitor.language]["network"]).scroll_into_view_if_needed()
    visitor.picture("repair")
    visitor.button("check.addAll")
    visitor.sees(visitor("check.fine"))
    complete(visitor, name)
    evidence = visitor.phalanx.evidence(name)
    assert len(evidence["pairs"]) == 2
