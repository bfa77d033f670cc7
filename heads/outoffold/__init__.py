"""Out-of-fold answers of heads: the slow honest way, the shared way, and which is taken."""
