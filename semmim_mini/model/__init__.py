"""The networks: image encoder with text injection, text and fusion encoders, the shared encoding space, and their teacher."""
