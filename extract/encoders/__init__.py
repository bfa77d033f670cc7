"""What turns the bytes of one file into one vector."""
