"""Store and summarise the decisions of human reviewers."""
