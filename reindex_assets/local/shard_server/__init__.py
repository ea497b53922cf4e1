"""A local ClickHouse shard: an HTTP server over one in-process chdb engine, for unmodified clickhouse-connect.

Run it with `python -m reindex_assets.local.shard_server --path DIR --port P --name shard-0`; the password comes from
REINDEX_LOCAL_PASSWORD. The engine is the real one, so tables, merges, mutations and types behave as in production.

What such a shard lacks, so that no test may claim it:

- the native TCP protocol, and so `Distributed`, `remote` or `cluster` across shards;
- `Replicated*` tables, Keeper, `ON CLUSTER`;
- users, roles, quotas and grants: there is one user with one password, which this server checks;
- TLS, and any address but 127.0.0.1;
- durability against power loss: an acknowledged insert survives `kill -9` of the process, but not a crash of the machine;
- the client's query id inside the engine: the server returns it in the headers and writes it to `log_comment`, unless the client sets
  `log_comment` itself. `KILL QUERY WHERE query_id = ...` with the client's id finds nothing;
- `INSERT ... SELECT ... FROM input(...)`; and an INSERT without a list of columns, in a format without column names, into a table with
  EPHEMERAL columns must contain those columns too;
- disk, network and programs for clients: `file()`, `url()`, `s3()`, INTO OUTFILE and the like are refused by name. That protects an
  honest client from harm; it is no sandbox against a hostile one.

The files, in the order in which a request passes through them: `server.py` (HTTP, authentication), `handler.py` (from request to answer),
`request.py` (parameters, body), `codecs.py` (compression), `sql.py` (reading the statement), `sessions.py` (its connection),
`statements.py` (running it), `engine.py` (chdb), `answers.py` (writing the answer), `errors.py` (error codes and texts).
"""
