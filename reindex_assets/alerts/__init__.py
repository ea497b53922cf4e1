"""What is wrong, what of it people are told, and how it reaches them. Reading the Dagster instance belongs in defs/."""
