EXPLAIN (FORMAT JSON) SELECT 1 FROM historic.scorecard_scores
