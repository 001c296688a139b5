"""Images on disk to training batches."""
