"""What a score is: the table of metrics, their definitions, and how far each is known."""
