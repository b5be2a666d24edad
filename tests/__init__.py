"""Tests."""

import os

from sessiond_server.__main__ import EXPERIMENTS

# Servers in the test process use the threads of gRPC as `sessiond serve` does. gRPC reads the
# variable when it is first used.
os.environ.setdefault("GRPC_EXPERIMENTS", EXPERIMENTS)
