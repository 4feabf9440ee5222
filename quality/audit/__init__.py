"""Measure how well scorers separate good from bad text on labelled data."""
