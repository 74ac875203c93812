"""What tests of plugins and of hooks need: a Flux instance that is not there."""

from __future__ import annotations

from fluxburst.simulation.embedded import EmbeddedInstance
from fluxburst.simulation.recordings import Recording
from fluxburst.simulation.recordings import load as load_recording

__all__ = ["EmbeddedInstance", "Recording", "load_recording"]
