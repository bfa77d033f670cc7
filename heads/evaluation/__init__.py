"""One evaluation: systems, answers, scores, the leaderboard, and what is taken again."""
