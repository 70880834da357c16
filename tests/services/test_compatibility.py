"""docs/compatibility.md says what the code does."""

import importlib.util
from pathlib import Path

from phalanx.services.sagemaker.service import service
from phalanx.wire.loader import service_model

SCRIPT = Path(__file__).parents[2] / "tools/compatibility.py"


def script():
    spec = importlib.util.spec_from_file_location("compatibility", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_code_says():
    written = script()
    assert written.PAGE.read_text() == written.page(), "run: python tools/compatibility.py"


def test_the_operations_of_the_page_are_those_that_are_served():
    listed = script().OPERATIONS
    assert len(listed) == len(set(listed))
    assert set(listed) <= set(service_model("sagemaker").operation_names)
    assert set(service(None, None).handlers) == set(listed)


def test_everything_that_is_served_is_shown_by_a_test_and_nothing_else_is_marked():
    rows = script().rows()
    assert [name for name, tests in rows.items() if not tests] == [], "mark a test: @pytest.mark.shows(NAME)"
    assert set(script().shown()) <= set(rows), "marked, but neither an operation that is served nor a member"


def test_the_tests_that_go_through_the_table_are_there():
    for name in script().GENERIC.values():
        file, _, test = name.partition("::")
        assert f"def {test}(" in (script().TESTS / file).read_text()
