"""The background thread of a run: what it does not begin. What does not live here: Ctrl-C as a whole (cli/test_interruption.py)."""

from __future__ import annotations

import logging
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from reindex_assets.defs.assets.background import STOP, BackgroundRun
from reindex_assets.defs.assets.run_config import ReindexConfig
from reindex_assets.model import PROCESS
from reindex_assets.reindex.job import Reindex
from reindex_assets_tests.support.datasets import dataset_named


@pytest.mark.parametrize("is_interrupted", [True, False])
def test_a_run_that_was_interrupted_while_it_waited_for_its_slot_begins_nothing(
    monkeypatch: pytest.MonkeyPatch, is_interrupted: bool
) -> None:
    begun = []
    monkeypatch.setattr(Reindex, "run", lambda *arguments: begun.append(arguments))
    context: Any = SimpleNamespace(log=logging.getLogger("test"), run=SimpleNamespace(tags={}, run_id="a run"))
    work = BackgroundRun(context, dataset_named("here", PROCESS), ReindexConfig(), [], [])
    asked = threading.Event()
    token = STOP.set(asked)
    try:
        if is_interrupted:
            asked.set()
            with pytest.raises(KeyboardInterrupt):
                list(work.outcomes())
        else:
            list(work.outcomes())
    finally:
        STOP.reset(token)
    assert bool(begun) is not is_interrupted
