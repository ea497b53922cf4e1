SELECT customer, template_type, day, profile, scorecard_id, score_id, version
FROM score
WHERE (customer, template_type, day, profile, scorecard_id, score_id) IN %(keys)s
  AND version < %(older_than)s
