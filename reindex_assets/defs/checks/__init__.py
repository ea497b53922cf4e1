"""The asset checks: their names and descriptions, and when each is green."""
