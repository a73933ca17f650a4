"""Pixels and words in: pairs of images and captions, views of them, and the batches a training step reads."""
