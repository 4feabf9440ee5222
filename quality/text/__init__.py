"""Normalise and measure text: words, sentences, claims, style."""
