"""Price, estimate and limit what asking a teacher costs."""
