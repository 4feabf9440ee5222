"""Define the scorer interface and what several scorers share."""
