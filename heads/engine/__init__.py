"""The shared-work engine: all folds of a head at once, equal to the slow honest way."""
