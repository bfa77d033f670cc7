"""Every view of a run: text, page, tables, files, other tools."""
