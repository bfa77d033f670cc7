"""From files to pixels and samples, in processes that a hostile file cannot take along."""
