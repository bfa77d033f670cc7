"""Heads for numbers: each learns from rows X (n, d) and numbers y (n,), and answers with such."""
