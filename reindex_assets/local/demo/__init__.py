"""The demonstrations, on the local stack."""
