"""What Dagster loads. What lives here: the assembly of the parts, from a fleet. What does not: any of the parts."""

from __future__ import annotations

from dagster import Definitions, definitions

from reindex_assets.config.fleet import load_fleet
from reindex_assets.config.settings import Settings
from reindex_assets.defs.build import build_defs


@definitions
def defs() -> Definitions:
    """The fleet of REINDEX_FLEET; read when Dagster loads the code location, not at import."""
    settings = Settings()
    return build_defs(load_fleet(settings.fleet_file()), mode=settings.mode)
