"""Checks and measurements of what runs on a GPU; each takes a device, and runs on a CPU, too."""
