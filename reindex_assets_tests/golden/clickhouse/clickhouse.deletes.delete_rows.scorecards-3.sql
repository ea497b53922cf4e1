DELETE
FROM scorecard IN
PARTITION 202601
WHERE (customer, template_type, day, profile, scorecard_id, version) IN %(keys)s
AND version < %(older_than)s
