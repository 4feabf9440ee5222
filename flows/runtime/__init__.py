"""Run stages: the run context, Prefect's server, signals and progress."""
