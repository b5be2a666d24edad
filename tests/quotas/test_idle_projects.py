"""Servers forget idle projects, and learn their limits again at the next lookup of a key."""

from uuid import uuid4

import pytest

from sessiond_server.core.errors import Fault
from sessiond_server.quotas.limits import NO_LIMITS, ProjectLimits
from sessiond_server.quotas.service import IDLE_S

from ..support.quotas import unlimited
from .conftest import Clock


def test_an_idle_project_is_forgotten_and_its_limits_come_back_with_its_key(clock: Clock) -> None:
    quotas, project, other = unlimited(), uuid4(), uuid4()
    limits = ProjectLimits(calls_per_second=1)
    for one in (project, other):
        quotas.set_limits(one, limits)
    clock.now += IDLE_S
    quotas.begin_call(other)
    clock.now += 1
    quotas.forget_idle()
    assert (quotas.is_limited(project), quotas.is_limited(other)) == (False, True)
    quotas.set_limits(project, limits)
    quotas.begin_call(project)
    with pytest.raises(Fault, match="limit of 1 calls a second"):
        quotas.begin_call(project)


def test_limits_that_are_read_again_unchanged_keep_what_was_used(clock: Clock) -> None:
    quotas, project = unlimited(), uuid4()
    limits = ProjectLimits(calls_per_second=1)
    quotas.set_limits(project, limits)
    quotas.begin_call(project)
    quotas.set_limits(project, limits)
    with pytest.raises(Fault):
        quotas.begin_call(project)
    quotas.set_limits(project, NO_LIMITS)
    assert not quotas.is_limited(project)
    quotas.begin_call(project)
