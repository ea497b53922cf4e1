"""The former place of TaggedRunQueue, for a `dagster.yaml` of version 0.1; goes with version 0.3."""

from reindex_assets.defs.instance.run_queue import TaggedRunQueue as TaggedRunQueue
