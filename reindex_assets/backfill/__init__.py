"""The plan of a backfill over many customers and days, and a forecast of how long it takes."""
