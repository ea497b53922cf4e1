SELECT customer, template_type, day, profile, scorecard_id, version
FROM scorecard
WHERE (customer, template_type, day, profile, scorecard_id) IN %(keys)s
  AND version < %(older_than)s
