"""The assets, and what their runs report to Dagster."""
