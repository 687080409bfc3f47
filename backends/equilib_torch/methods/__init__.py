"""Training methods: one short file each, registered here once."""

from . import agm, alternating, equilib, joint, joint_unimodal, late_fusion, modality_dropout, ogm_ge, pmr
from .base import Losses, Method, Plan, Setting, Step, Update

METHODS: dict[str, Method] = {
    module.METHOD.name: module.METHOD
    for module in (equilib, alternating, joint, joint_unimodal, late_fusion, modality_dropout, ogm_ge, agm, pmr)
}

__all__ = ["METHODS", "Losses", "Method", "Plan", "Setting", "Step", "Update"]
