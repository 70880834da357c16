"""The pages of docs/: each can be found."""

import re
from pathlib import Path

import pytest

from phalanx.cli.env import access
from phalanx.cli.settings import AdminKey, Endpoints
from phalanx.identity.managed import POLICIES

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(("readme", "elsewhere"), [("README.md", {"console.ja.md"}), ("README.ja.md", {"console.md"})])
def test_a_readme_leads_to_every_page(readme, elsewhere):
    linked = set(re.findall(r"\]\(docs/([\w./-]+)", (ROOT / readme).read_text()))
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} | {"decisions/README.md"}
    assert pages - linked - elsewhere == set()


@pytest.mark.parametrize("page", [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#\s]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_page_for_clients_elsewhere_has_what_env_prints(tmp_path):
    """But for what it does against what a shell holds already."""
    Endpoints("https://10.0.0.1:8770", "https://10.0.0.1:44739", "us-west-2", str(tmp_path / "authority.pem")).save(tmp_path)
    AdminKey("AKIAEXAMPLE", "secret").save(tmp_path)
    exported = re.findall(r"\b((?:AWS|SAGEMAKER)_\w+)=", (ROOT / "docs/clients.md").read_text())
    ours = {*access(tmp_path), "SAGEMAKER_ADMIN_CONFIG_OVERRIDE"} - {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"}
    assert sorted(exported) == sorted(ours)


def test_the_page_for_users_names_all_managed_policies():
    paragraph = re.search(r"or these of AWS's(.*?)\.", (ROOT / "docs/clients.md").read_text(), re.DOTALL)
    assert sorted(re.findall(r"`(\w+)`", paragraph[1])) == sorted(arn.rpartition("/")[2] for arn in POLICIES)
