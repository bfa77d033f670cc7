"""A run: what an evaluation gave, as one typed object, and the folder that keeps it."""
