"""Training methods: one short file each, registered here once."""

from . import equilib, joint, joint_unimodal, late_fusion
from .base import Losses, Method, Plan, Setting, Step, Update

METHODS: dict[str, Method] = {
    module.METHOD.name: module.METHOD for module in (equilib, joint, joint_unimodal, late_fusion)
}

__all__ = ["METHODS", "Losses", "Method", "Plan", "Setting", "Step", "Update"]
