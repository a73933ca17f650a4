"""One training step, the loop around it, and what keeps a run exact, visible and safe."""
