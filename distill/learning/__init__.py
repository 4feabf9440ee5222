"""Share what the training objectives need: vocabularies, divergences, processes, serving checks."""
