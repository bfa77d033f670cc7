"""The table as it comes: dialects, folders, columns, ids, splits, labels."""
