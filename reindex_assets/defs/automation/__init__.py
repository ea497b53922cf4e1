"""What acts by itself: schedules, and the sensors that repair, alert, and fail runs that have stalled."""
