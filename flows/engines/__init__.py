"""Run shards of a stage here, in worker processes, or on a Dask or Ray cluster: `[run] engine`."""
