"""What tells one opened run or projection from another, where something computed from it is kept."""

from typing import Any

from .projections import ProjectedPoints
from .run_folder import OpenRun

BY_KEY: dict[str | type, Any] = {OpenRun: lambda opened: opened.key, ProjectedPoints: lambda points: points.key}
