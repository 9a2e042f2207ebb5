"""Every policy has the methods of its protocol, with its arguments in its order."""

import inspect

import pytest

from internnav_hf.catalog import FAMILIES
from internnav_hf.policies.policy import GoalPolicy, InstructionPolicy

METHODS = ("start", "steps", "reset", "act")
PROTOCOLS = {"vln": InstructionPolicy, "visual_navigation": GoalPolicy}


def arguments(method) -> list[str]:
    return list(inspect.signature(method).parameters)


@pytest.mark.parametrize("family", [one for one in FAMILIES if one.benchmark], ids=lambda f: f.name)
def test_a_policy_has_the_signatures_of_its_protocol(family):
    policy, protocol = family.load("policy"), PROTOCOLS[family.benchmark]
    for method in METHODS:
        expected = arguments(getattr(protocol, method))
        assert arguments(getattr(policy, method))[: len(expected)] == expected
    for name in ("camera", "cameras", "from_pretrained"):
        assert hasattr(policy, name)
