"""The one training loop and the two trainings assembled from it."""
