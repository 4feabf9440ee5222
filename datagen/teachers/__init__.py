"""One teacher per file; the file stem is its name in a plan."""
