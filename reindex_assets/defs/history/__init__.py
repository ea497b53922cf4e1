"""What the Dagster instance knows of runs and repairs, past and present."""
