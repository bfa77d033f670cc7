"""Heads on stores that are read block by block, for rows that do not fit in memory."""
