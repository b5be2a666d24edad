"""`sessiond health`: asks the health service, as a container's health check does."""

import argparse
import os
import sys
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from sessiond_server.cli.errors import CommandError


def run(arguments: list[str]) -> int:
    """Exit 0 where the server says SERVING, else 1."""
    parser = argparse.ArgumentParser(prog="sessiond health")
    parser.add_argument(
        "--target", default=os.environ.get("SESSIOND_TARGET", "localhost:50051"), help="HOST:PORT"
    )
    parser.add_argument(
        "--tls-ca",
        default=os.environ.get("SESSIOND_TLS_CERT"),
        help="PEM file of the authority to trust; asks over TLS. Default: SESSIOND_TLS_CERT, the server's own certificate",
    )
    parser.add_argument(
        "--server-name", help="the name in the certificate, where it is not the target's host"
    )
    parser.add_argument("--timeout", type=float, default=5.0, help="seconds")
    options = parser.parse_args(arguments)
    if options.tls_ca:
        try:
            authority = Path(options.tls_ca).read_bytes()
        except OSError as e:
            raise CommandError(
                f"--tls-ca: cannot read {options.tls_ca}: {e.strerror}", exit_code=2
            ) from None
        credentials = grpc.ssl_channel_credentials(authority)
        names = (
            [("grpc.ssl_target_name_override", options.server_name)] if options.server_name else []
        )
        channel = grpc.secure_channel(options.target, credentials, options=names)
    else:
        channel = grpc.insecure_channel(options.target)
    with channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=options.timeout
            )
        except grpc.RpcError as e:
            sys.stderr.write(f"{options.target}: {e.code().name}\n")
            return 1
    status = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    sys.stdout.write(f"{status}\n")
    return 0 if status == "SERVING" else 1
