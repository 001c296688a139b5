"""Masking, encoders, and the networks for pre-training and re-identification."""
