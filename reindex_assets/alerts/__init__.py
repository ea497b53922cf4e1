"""Which problems are reported to people, in which words, and how they are sent. Reading the Dagster instance belongs in defs/."""
