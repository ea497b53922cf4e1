"""Texts of fleet files for the tests.

What lives here: a valid example, and changes of it. What does not: tests.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

SECRET = "correct horse battery staple"

EXAMPLE = """\
first_day: 2025-06-01
look_back_days: 5
slices: s3://scorecards/slices
clusters:
  us-east-1-prod:
    postgres:
      host: director.internal
      database: director
      user: reindex_reader
      password: {env: US_EAST_1_POSTGRES_PASSWORD}
      sslmode: verify-full
      relations: {scores: director.historic_scorecard_scores}
    clickhouse:
      user: reindex
      password: {env: US_EAST_1_CLICKHOUSE_PASSWORD}
      secure: true
      replicated: true
      shards:
        - {host: shard-0.internal, port: 8443}
        - {host: shard-1.internal, port: 8443}
    customers:
      spirit: {profiles: [main, voice]}
      united-east: {}
  voice-prod:
    postgres: {host: voice.internal, database: director, user: reader, password: {env: VOICE_PASSWORD}}
    clickhouse: {password: {env: VOICE_PASSWORD}, shards: [{host: voice-0.internal}]}
    customers:
      holiday.inn: {}
"""

REPLICAS = """\
      shards:
        - replicas: [{host: shard-0a.internal, port: 8443}, {host: shard-0b.internal}]
        - {host: shard-1.internal, port: 8443}
"""

DEFAULTS = """\
defaults:
  postgres: {user: common, max_connections: 4, relations: {chats: app.talks}}
  clickhouse: {password: {env: COMMON}, database: analytics}
"""

Change = Callable[[dict[str, Any]], object]


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "fleet.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def changed(change: Change) -> str:
    """The example with one change, as YAML."""
    document = yaml.safe_load(EXAMPLE)
    change(document)
    return yaml.safe_dump(document)


def east(document: dict[str, Any]) -> dict[str, Any]:
    cluster: dict[str, Any] = document["clusters"]["us-east-1-prod"]
    return cluster


def with_replicas(text: str = REPLICAS) -> str:
    start = EXAMPLE.index("      shards:")
    return EXAMPLE[:start] + text + EXAMPLE[EXAMPLE.index("    customers:") :]
