"""Tests of the whole product: runs, sensors and commands together, on real engines."""
