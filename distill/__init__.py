"""Compare teacher and student: the plan, contestants, evaluation, objectives and report."""

import warehouse as _warehouse  # noqa: F401  (telemetry is switched off there first)
