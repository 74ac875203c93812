"""For tests of plugins and hooks: a simulated Flux instance."""

from __future__ import annotations

from fluxburst.simulation.embedded import EmbeddedInstance
from fluxburst.simulation.recordings import Recording
from fluxburst.simulation.recordings import load as load_recording

__all__ = ["EmbeddedInstance", "Recording", "load_recording"]
