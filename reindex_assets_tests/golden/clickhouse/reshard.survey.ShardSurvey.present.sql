SELECT DISTINCT template_type AS found
FROM score
UNION ALL
SELECT DISTINCT template_type AS found
FROM scorecard
