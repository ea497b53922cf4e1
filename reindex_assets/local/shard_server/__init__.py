"""A local ClickHouse shard: an HTTP server over one in-process chdb engine, for unmodified clickhouse-connect.

Run it with `python -m reindex_assets.local.shard_server --path DIR --port P --name shard-0`; the password comes
from REINDEX_LOCAL_PASSWORD. The engine is the real one, so tables, merges, mutations and types behave as in production.

What such a shard is NOT, so that no test may claim it:

- no native TCP protocol, and so no `Distributed`, `remote` or `cluster` across shards;
- no `Replicated*` tables, no Keeper, no `ON CLUSTER`;
- no users, roles, quotas or grants: one user with one password, checked by this server;
- no TLS, and no address but 127.0.0.1;
- no durability against power loss: an acknowledged insert survives `kill -9` of the process, not of the machine;
- no query id of the client inside the engine: it is answered in the headers and written to `log_comment`, unless the
  client sets `log_comment` itself. `KILL QUERY WHERE query_id = ...` with the client's id finds nothing;
- no `INSERT ... SELECT ... FROM input(...)`; and an INSERT without a list of columns, in a format without their names,
  into a table with EPHEMERAL columns must bring those columns too;
- no disk, no network and no programs for clients: `file()`, `url()`, `s3()`, INTO OUTFILE and their like are refused
  by name. That keeps an honest client from harm; it is no sandbox against a hostile one.

The files, in the order in which a request meets them: `server.py` (HTTP, authentication), `request.py` (parameters,
body), `codecs.py` (compression), `sql.py` (reading the statement), `sessions.py` (the connection it runs on),
`statements.py` (running it), `engine.py` (chdb itself), `errors.py` (what a client is told).
"""
