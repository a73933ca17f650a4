"""Downstream tasks: what a pre-trained model can do."""
