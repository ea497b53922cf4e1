"""The marker `engines` and its guard, on small suites of their own."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

CONFTEST = """
import subprocess, sys
import pytest
from reindex_assets_tests.support.engine_guard import EngineGuard

def pytest_configure(config):
    config.pluginmanager.register(EngineGuard())

@pytest.fixture(scope="session")
def engines():
    pass

@pytest.fixture(scope="module")
def asking(engines):
    subprocess.run([sys.executable, "-c", ""])

@pytest.fixture(scope="module")
def not_asking():
    subprocess.run([sys.executable, "-c", ""])

@pytest.fixture(scope="module")
def leaving():
    yield
    subprocess.run([sys.executable, "-c", ""])
"""

TESTS = """
import os
import subprocess
import pytest

def test_nothing_is_started(leaving):
    pass

def test_a_fixture_starts_something(asking):
    pass

@pytest.mark.usefixtures("engines")
def test_starts_something_itself():
    subprocess.run(["true"])

def test_a_fixture_forgets_to_ask(not_asking):
    pass

def test_forgets_to_ask():
    try:
        subprocess.run(["true"])
    except Exception:
        pass

def test_forks():
    if os.fork() == 0:
        os._exit(0)
"""


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeini(
        "[pytest]\naddopts = --strict-markers -p no:cacheprovider -p no:xdist\nmarkers = engines: needs engines"
    )
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(TESTS)
    return pytester


@pytest.mark.usefixtures("engines")
def test_a_process_may_be_started_by_a_test_with_the_marker_only(suite: pytest.Pytester) -> None:
    ended = suite.runpytest()
    ended.assert_outcomes(passed=3, failed=2, errors=1)
    for name in ("a_fixture_forgets_to_ask", "forgets_to_ask", "forks"):
        ended.stdout.re_match_lines(
            [rf".*test_{name} starts a process \(.*let the fixture which starts it ask .*'engines'.*"]
        )


def test_the_marker_comes_from_the_fixtures(suite: pytest.Pytester) -> None:
    for chosen, count in (("engines", 2), ("not engines", 4)):
        ended = suite.runpytest("-m", chosen, "--collect-only", "-q")
        ended.stdout.fnmatch_lines([f"{count}/6 tests collected ({6 - count} deselected) *"])
