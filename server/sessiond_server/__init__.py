"""The sessiond server. Its rooms, from the wire inwards: rpc (protos), service (rules), store (SQL)."""
