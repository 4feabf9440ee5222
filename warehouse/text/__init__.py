"""Read and compare texts: words of any script, reasoning, control marks, finish reasons."""
