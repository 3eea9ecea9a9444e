"""Images on disk to batches of pixels."""
