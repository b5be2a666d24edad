"""`sessiond health`: asks the health service, as a container's health check does."""

import argparse
import os
import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc


def run(arguments: list[str]) -> int:
    """Exit 0 where the server says SERVING, else 1."""
    parser = argparse.ArgumentParser(prog="sessiond health")
    parser.add_argument("--target", default=os.environ.get("SESSIOND_TARGET", "localhost:50051"), help="HOST:PORT")
    parser.add_argument("--tls-ca", help="PEM file of the authority to trust; asks over TLS")
    parser.add_argument("--timeout", type=float, default=5.0, help="seconds")
    options = parser.parse_args(arguments)
    if options.tls_ca:
        with open(options.tls_ca, "rb") as file:  # noqa: PTH123
            channel = grpc.secure_channel(options.target, grpc.ssl_channel_credentials(file.read()))
    else:
        channel = grpc.insecure_channel(options.target)
    with channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=options.timeout)
        except grpc.RpcError as e:
            sys.stderr.write(f"{options.target}: {e.code().name}\n")
            return 1
    status = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    sys.stdout.write(f"{status}\n")
    return 0 if status == "SERVING" else 1
