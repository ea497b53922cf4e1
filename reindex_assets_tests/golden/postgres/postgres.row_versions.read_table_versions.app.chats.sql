SELECT count(*) AS found, coalesce(sum(hash_record_extended(ROW(t.xmin, t.ctid), 0)), 0)::text AS mark
FROM app.chats AS t
