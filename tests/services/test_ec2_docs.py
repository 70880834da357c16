"""docs/ec2.md tells of every operation that is served, and of no other."""

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs/ec2.md"


def test_the_table_of_operations(ec2):
    told = re.findall(r"^\| `(\w+)` \|", DOCS.read_text(), re.MULTILINE)
    assert sorted(told) == sorted(ec2.handlers)
