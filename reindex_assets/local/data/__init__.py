"""Generated source data with realistic content."""
