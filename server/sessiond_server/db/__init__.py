"""SQL, and nothing but SQL: no rule of the service, no gRPC. One module a table or path; see docs/architecture.md."""
