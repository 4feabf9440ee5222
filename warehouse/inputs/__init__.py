"""Read what users bring: rows, documents, assets and refusal phrases."""
