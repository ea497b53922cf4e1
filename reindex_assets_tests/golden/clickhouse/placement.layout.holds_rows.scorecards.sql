SELECT 1 AS found FROM scorecard LIMIT 1
