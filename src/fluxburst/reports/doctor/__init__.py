"""Finds problems of an installation and suggests fixes.

Each area has a module of checks that yield findings. Checks read everything and change nothing.
"""

from fluxburst.reports.doctor.examination import Checked, Doctor

__all__ = ["Checked", "Doctor"]
