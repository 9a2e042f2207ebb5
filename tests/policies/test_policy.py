"""Every policy has the methods of its protocol, with its arguments in its order."""

import inspect

import pytest

from internnav_hf.policies import DualSystemPolicy, NavDPPolicy, RDPPolicy, VLNPolicy
from internnav_hf.policies.policy import GoalPolicy, InstructionPolicy

METHODS = ("start", "steps", "reset", "act")
FOLLOWERS = (DualSystemPolicy, VLNPolicy, RDPPolicy)


def arguments(method) -> list[str]:
    return list(inspect.signature(method).parameters)


@pytest.mark.parametrize(
    ("policy", "protocol"),
    [*((policy, InstructionPolicy) for policy in FOLLOWERS), (NavDPPolicy, GoalPolicy)],
)
def test_a_policy_has_the_signatures_of_its_protocol(policy, protocol):
    for method in METHODS:
        expected = arguments(getattr(protocol, method))
        assert arguments(getattr(policy, method))[: len(expected)] == expected
    for name in ("camera", "cameras", "from_pretrained"):
        assert hasattr(policy, name)
