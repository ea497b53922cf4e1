"""The former place of EventStorage, for a `dagster.yaml` of version 0.1; goes with version 0.3."""

from reindex_assets.defs.instance.event_storage import EventStorage as EventStorage
