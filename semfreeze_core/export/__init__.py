"""A freeze plan as a configuration or script for another trainer: text only, no torch."""

from semfreeze_core.export.request import Exported
from semfreeze_core.export.targets import TARGETS, export_plan

__all__ = ["TARGETS", "Exported", "export_plan"]
