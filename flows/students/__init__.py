"""Find, export, describe and chat with trained students."""
