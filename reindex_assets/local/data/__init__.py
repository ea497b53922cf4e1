"""Generated source data of realistic shape."""
