"""Define who answers benchmark items, and what they are shown with each item."""
