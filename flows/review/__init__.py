"""Serve the local page on which a person reviews samples."""
