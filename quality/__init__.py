"""Score and select data and answers: scorers, gates and benchmarks."""

import warehouse as _warehouse  # noqa: F401  (telemetry is switched off there first)
