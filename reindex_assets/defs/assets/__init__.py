"""The assets and what a run of them tells Dagster."""
