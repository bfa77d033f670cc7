"""A fitted model: fitting it, its file, and what it says of rows."""
