"""Run a plan by itself: ticks, what changed since the last one, drift, promotion, Prefect."""
