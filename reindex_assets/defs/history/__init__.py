"""What the Dagster instance has recorded about runs and repairs, past and present."""
