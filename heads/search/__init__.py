"""Options of a head that are chosen inside the training rows."""
