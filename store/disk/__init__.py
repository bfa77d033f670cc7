"""Files, commits, generations, claims: the bytes on the disk and the protocol they keep."""
