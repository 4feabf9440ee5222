"""Run the training loop: TRL trainers, checkpoints, callbacks, tracking."""
