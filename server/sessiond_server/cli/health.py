"""`sessiond health`: calls the health service, for health checks of containers."""

import argparse
import os
import sys
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from sessiond._protocol.settings import proxy_options
from sessiond_server.cli.errors import CommandError


def run(arguments: list[str]) -> int:
    """Print the server's status.

    Args:
        arguments: flags.

    Returns:
        0 if the status is SERVING, otherwise 1.

    Raises:
        CommandError: if the file given by --tls-ca cannot be read.
    """
    options = parser().parse_args(arguments)
    with _channel(options) as channel:
        try:
            response = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service="liveness" if options.liveness else ""),
                timeout=options.timeout,
            )
        except grpc.RpcError as e:
            sys.stderr.write(f"{options.target}: {e.code().name}\n")
            return 1
    status = health_pb2.HealthCheckResponse.ServingStatus.Name(response.status)
    sys.stdout.write(f"{status}\n")
    return 0 if status == "SERVING" else 1


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command."""
    result = argparse.ArgumentParser(
        prog="sessiond health",
        description="Check whether a server is serving. Exit code 0: SERVING; 1: anything else.",
    )
    result.add_argument(
        "--target",
        metavar="HOST:PORT",
        default=os.environ.get("SESSIOND_TARGET", "localhost:50051"),
        help="address of the server. Default: SESSIOND_TARGET, or localhost:50051",
    )
    result.add_argument(
        "--tls-ca",
        default=os.environ.get("SESSIOND_TLS_CERT"),
        metavar="FILE",
        help="use TLS, and trust the authority in this PEM file. "
        "Default: SESSIOND_TLS_CERT, the server's own certificate",
    )
    result.add_argument(
        "--server-name",
        metavar="NAME",
        help="name in the server's certificate. Default: the target's host",
    )
    result.add_argument(
        "--timeout",
        type=float,
        default=5.0,
        metavar="SECONDS",
        help="timeout of the check. Default: 5",
    )
    result.add_argument(
        "--liveness",
        action="store_true",
        help="check only whether the process answers, not its database",
    )
    return result


def _channel(options: argparse.Namespace) -> grpc.Channel:
    """Return a channel to the server.

    Raises:
        CommandError: if the file given by --tls-ca cannot be read.
    """
    # A check of this machine ignores proxy variables, because it would fail through a proxy.
    direct = list(proxy_options(options.target).items())
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
        return grpc.secure_channel(options.target, credentials, options=[*names, *direct])
    return grpc.insecure_channel(options.target, options=direct)
