"""Scores, intervals, paired comparisons, and what a choice among many is worth."""
