"""Compare the answers of contestants and derive every finding of the report."""
