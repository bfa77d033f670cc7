"""The kinds of head: one file each, and what they share to scale and calibrate themselves."""
