"""The marker `engines`: whatever starts a process has it, by its fixtures, and whatever does not have it may start none.

What lives here: setting the marker, and the guard. What does not: the fixture `engines` (conftest.py), which every fixture that starts
a process asks for.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

MARKER = "engines"
_STARTS = frozenset({"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system"})


class EngineGuard:
    """A plugin of pytest. `-m "not engines"` are then the tests which need neither Postgres nor ClickHouse, nor any other process."""

    def __init__(self) -> None:
        self._guarded: pytest.Item | None = None
        # An audit hook can't be taken away again: it does nothing while no test is guarded.
        sys.addaudithook(self._refuse)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Before pytest chooses by markers."""
        for item in items:
            if MARKER in getattr(item, "fixturenames", ()):
                item.add_marker(MARKER)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Iterator[None]:
        yield from self._guarding(item)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        yield from self._guarding(item)

    def _guarding(self, item: pytest.Item) -> Iterator[None]:
        # Not while fixtures end: those of a session or a module end with whichever test comes last.
        self._guarded = None if item.get_closest_marker(MARKER) else item
        try:
            yield
        finally:
            self._guarded = None

    def _refuse(self, event: str, arguments: tuple[object, ...]) -> None:
        if self._guarded is None or event not in _STARTS:
            return
        # Not an Exception: nothing between here and pytest takes it for a failure that it can live with.
        pytest.fail(
            f"{self._guarded.nodeid} starts a process ({event} {arguments[:2]}) and is not marked as needing engines: let the fixture"
            f" which starts it ask for the fixture '{MARKER}', or the test itself by @pytest.mark.usefixtures('{MARKER}')"
        )
