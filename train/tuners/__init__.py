"""One tuner per file; the file stem is its name in a plan."""
