"""Settings from the environment, by pydantic-settings.

What lives here: where the fleet file is, what is scheduled, and whom alerts reach. What does not: the content of either.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from reindex_assets.config.modes import Mode

LOCAL_ROOT = Path(".local")


class Settings(BaseSettings):
    """Environment variables whose names begin with REINDEX_."""

    # The address of an alert's target is a secret: no error may repeat what was given.
    model_config = SettingsConfigDict(env_prefix="REINDEX_", hide_input_in_errors=True)

    fleet: Path | None = Field(default=None, description="The fleet file; without it, the local stack's.")
    alert_urls: SecretStr = Field(
        default=SecretStr(""),
        description="Apprise URLs, separated by spaces or line breaks; a comma before a space may stand, a space within a URL is %20.",
    )
    mode: Mode | None = Field(
        default=None,
        description="Which scorecards the schedules reindex and check every day, in every cluster: conversation, process or all. Without "
        "it, each cluster's `mode` of the fleet file.",
    )
    ui_url: str = Field(
        default="", description="The address of the Dagster UI, for links in alerts; without it, alerts hold no links."
    )
    alert_repeat_hours: Annotated[float, Field(ge=0.1, le=8760)] = Field(
        default=24, description="An open problem is told again after this time. Fewer hours nag more."
    )
    alert_grace_seconds: Annotated[int, Field(ge=0, le=86400)] = Field(
        default=120,
        description="A red check is told when it is still red after this time. Less tells of what is being repaired anyway.",
    )

    @field_validator("mode", mode="before")
    @classmethod
    def _known_mode(cls, value: object) -> object:
        if value is not None and value not in list(Mode):
            raise ValueError(
                f"REINDEX_MODE has to be one of {', '.join(Mode)}: correct it and load the code location again"
            )
        return value

    def fleet_file(self) -> Path:
        """The fleet file to load."""
        return self.fleet or LOCAL_ROOT / "fleet.yaml"
