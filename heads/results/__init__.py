"""Results as text, tables and runs, for a terminal, a notebook and other programs."""
