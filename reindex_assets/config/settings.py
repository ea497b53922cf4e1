"""Settings from the environment, read by pydantic-settings.

What lives here: where the fleet file is, what is scheduled, and where alerts go. What does not: what these contain.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from reindex_assets.config.local_environment import DEFAULT_ROOT
from reindex_assets.config.modes import Mode


class Settings(BaseSettings):
    """Environment variables whose names begin with REINDEX_."""

    # An alert target's URL is a secret, so no error may repeat the input.
    model_config = SettingsConfigDict(env_prefix="REINDEX_", hide_input_in_errors=True)

    fleet: Path | None = Field(default=None, description="The fleet file. Default: the local stack's.")
    alert_urls: SecretStr = Field(
        default=SecretStr(""),
        description="Apprise URLs, separated by spaces or line breaks; a comma before the space is allowed. Write a space in a URL as %20.",
    )
    mode: Mode | None = Field(
        default=None,
        description="Which scorecards the schedules reindex and check every day in every cluster: conversation, process or all. "
        "Default: each cluster's `mode` in the fleet file.",
    )
    ui_url: str = Field(
        default="", description="The address of the Dagster UI, for links in alerts. Without it, alerts have no links."
    )
    alert_repeat_hours: Annotated[float, Field(ge=0.1, le=8760)] = Field(
        default=24, description="Send an open problem again after this many hours."
    )
    alert_grace_seconds: Annotated[int, Field(ge=0, le=86400)] = Field(
        default=120,
        description="Send a red check only when it is still red after this many seconds. A shorter time also reports drift that the repair "
        "sensor is about to fix.",
    )

    @field_validator("mode", mode="before")
    @classmethod
    def _known_mode(cls, value: object) -> object:
        if value is not None and value not in list(Mode):
            raise ValueError(f"REINDEX_MODE must be one of {', '.join(Mode)}: correct it and reload the code location")
        return value

    def fleet_file(self) -> Path:
        return self.fleet or DEFAULT_ROOT / "fleet.yaml"
