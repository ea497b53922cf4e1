"""The Dagster instance: its storages, its run queue, how it is opened, and the Celery worker. `dagster.yaml` names classes from here."""
