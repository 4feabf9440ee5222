"""Store records: the DuckDB store, the spool, assets and the catalog of parts.

Importing any room imports this one first, so the promise that nothing leaves the
machine unasked is kept here: telemetry of the libraries we build on is off unless
the user has set the variable otherwise.
"""

import logging
import os

_TELEMETRY_OFF = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "WANDB_MODE": "disabled",
}

for _name, _value in _TELEMETRY_OFF.items():
    os.environ.setdefault(_name, _value)

logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns of optional kernels
