"""From image files on disk to batches of pixels."""
