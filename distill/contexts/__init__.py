"""One context per file; the file stem is its name after a plus sign."""
