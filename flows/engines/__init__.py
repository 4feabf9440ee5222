"""Run shards of a stage here, or in worker processes: `[run] engine`."""
