"""Where teacher and student meet: the plan, contestants, comparison and report."""

import warehouse as _warehouse  # noqa: F401  (telemetry is switched off there first)
