"""The demonstrations, and what they show."""
