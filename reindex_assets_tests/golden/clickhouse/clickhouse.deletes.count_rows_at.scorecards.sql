SELECT customer, template_type, day, profile, scorecard_id, count() AS found
FROM scorecard
WHERE (customer, template_type, day, profile, scorecard_id) IN %(keys)s
  AND version < %(older_than)s
GROUP BY customer, template_type, day, profile, scorecard_id
