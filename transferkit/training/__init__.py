"""Training: optimizer, learning rate schedule, loop and checkpoints."""
