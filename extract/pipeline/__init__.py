"""From pending rows to commits, and the account of it."""
