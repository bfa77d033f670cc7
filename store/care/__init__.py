"""Looking after a store: info, verify, repair, merge, labels."""
