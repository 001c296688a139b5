"""Evaluation: embeddings in, reports out."""
