"""The pages of docs/: each can be found."""

import re
from pathlib import Path

import pytest

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
