"""Run comparisons over several trainings, gates or runs."""
