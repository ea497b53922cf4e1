"""Settings from the environment, by pydantic-settings. What lives here: where the fleet file is. What does not: its content."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

LOCAL_ROOT = Path(".local")


class Settings(BaseSettings):
    """Environment variables whose names begin with REINDEX_."""

    model_config = SettingsConfigDict(env_prefix="REINDEX_")

    fleet: Path | None = Field(default=None, description="The fleet file; without it, the local stack's.")

    def fleet_file(self) -> Path:
        """The fleet file to load."""
        return self.fleet or LOCAL_ROOT / "fleet.yaml"
