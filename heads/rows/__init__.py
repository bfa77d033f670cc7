"""The labelled rows that heads learn from, their folds, and what to know of them before."""
