"""What runs automatically: the schedules, and the sensors that repair drift, send alerts and fail stalled runs."""
