"""Generate training data: recipes make prompts, teachers answer them, replies become samples."""

import warehouse as _warehouse  # noqa: F401  (telemetry is switched off there first)
