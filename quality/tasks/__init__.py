"""Define benchmarks over question rows, their graders and perturbations."""
