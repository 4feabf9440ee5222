"""Check training rows before training: masks, truncation, held-out overlap."""
