"""The losses of pre-training and fine-tuning: pure functions of tensors."""
