"""What the notebooks need beyond the library: exercise checkers, their pictures, and one command that executes them all."""
