"""Out to other tools and in from them."""
