"""The plan of a backfill over many customers and days, and how long it will take."""
