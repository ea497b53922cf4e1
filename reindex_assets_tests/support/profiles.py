"""A shard whose user has a settings profile, constraints and row policies: real ones, of a users.xml.

What lives here: the fixture `serve`. What does not: tests, and settings that a proxy adds (support/faulty_shard.py).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client

from reindex_assets.config.engines import SecretRef, Shard
from reindex_assets.config.fleet import Fleet
from reindex_assets_tests.support import shard_servers
from reindex_assets_tests.support.hand_made_rows import with_clickhouse

PASSWORD_VARIABLE = "REINDEX_TEST_PROFILE_PASSWORD"
_USERS = """\
<clickhouse>
<profiles><default>{profile}<constraints>{constraints}</constraints></default></profiles>
<users><default>
    <password></password><networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota>
    <databases>{policies}</databases>
</default></users>
<quotas><default/></quotas>
</clickhouse>
"""

Serve = Callable[..., AbstractContextManager[tuple[Fleet, Client]]]


@pytest.fixture(name="serve")
def shard_with_users(engines: None, fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Starts the only shard of a fleet, with what its user's users.xml says."""
    monkeypatch.setenv(PASSWORD_VARIABLE, shard_servers.PASSWORD)

    @contextlib.contextmanager
    def with_users(profile: str = "", constraints: str = "", policies: str = "") -> Iterator[tuple[Fleet, Client]]:
        users = tmp_path / "users.xml"
        users.write_text(_USERS.format(profile=profile, constraints=constraints, policies=policies))
        shard = shard_servers.start(tmp_path / "shard", users=users)
        try:
            alone = (Shard(host="127.0.0.1", port=shard.port),)
            changed = with_clickhouse(fleet, shards=alone, user="default", password=SecretRef(env=PASSWORD_VARIABLE))
            with shard.client() as client:
                yield changed, client
        finally:
            shard.stop()

    return with_users
