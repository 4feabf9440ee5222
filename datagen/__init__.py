"""Asking the teacher: recipes, teachers and the loop between them."""

import warehouse as _warehouse  # noqa: F401  (telemetry is switched off there first)
