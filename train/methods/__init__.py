"""Implement the fine-tuning methods that the tuners configure."""
