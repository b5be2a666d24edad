"""The rules: what a request must look like and what it means. No gRPC, no SQL; protobuf messages only as the form of what is stored."""
