"""Render evaluations, trainings and studies as HTML, Markdown and model cards."""
