"""Load, validate and pre-check the plan file."""
