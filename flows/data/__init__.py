"""Take data sets out of a plan's warehouse, and replies from elsewhere into it."""
