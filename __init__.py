"""headstock: extract features once, try heads in seconds, believe the number at the end."""

__version__ = "0.1.0"
