"""Wrap the models that scorers and retrieval use."""
