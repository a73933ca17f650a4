"""Which part of the method does what: rows and sweeps, trained alike, measured alike, over several seeds (`semmim-mini ablate`)."""
