"""Implement the stages of a run: generate, curate, train, evaluate, report."""
