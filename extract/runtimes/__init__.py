"""What computes the batches of a network, and what of it becomes the vector."""
