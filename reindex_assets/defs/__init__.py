"""The Dagster project: the only package that imports Dagster.

What belongs here: assets, checks, sensors, schedules, runs and the instance. What does not: any rule about rows. Those live below, where
they can be tested without Dagster.
"""
