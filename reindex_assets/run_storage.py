"""The former place of RunStorage, for a `dagster.yaml` of version 0.1; goes with version 0.3."""

from reindex_assets.defs.instance.run_storage import RunStorage as RunStorage
