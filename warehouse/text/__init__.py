"""Read text as models and people write it: reasoning, control marks, finish reasons."""
