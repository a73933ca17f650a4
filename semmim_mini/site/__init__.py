"""The site: course, annotated source, API and evidence, made of what is in the repository and nothing else."""
