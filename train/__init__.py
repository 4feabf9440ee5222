"""Train a student: tuners, the audit before training, TRL behind one entrance."""

import warehouse as _warehouse  # noqa: F401  (telemetry is switched off there first)
