"""Which rows belong to a group of slices: the SQL of both engines, written once. Nothing here connects."""
