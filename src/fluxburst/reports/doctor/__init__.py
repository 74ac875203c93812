"""What may be wrong with an installation, and what to do about it.

Each area has a module, whose checks yield findings. They look at everything, and change nothing.
"""

from fluxburst.reports.doctor.examination import Checked, Doctor

__all__ = ["Checked", "Doctor"]
