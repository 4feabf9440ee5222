"""Select samples: bounds, duplicates, decontamination, diversity."""
