"""Fusion: many systems' probabilities into one, the gate, stacks, and rows with gaps."""
