"""Run plans: the command line, stages, and Prefect for retries, shards and schedules.

Prefect reads its settings when it is first imported, so they are set here: quiet, no
analytics, and time enough for the temporary server to start on a busy machine. What
the user has set in the environment wins.
"""

import os

import warehouse as _warehouse  # noqa: F401  (telemetry is switched off there first)

for _name, _value in {
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    "PREFECT_CLI_COLORS": "false",
}.items():
    os.environ.setdefault(_name, _value)
