"""The instance that jobs wait in: one protocol, a live Flux and an embedded one."""
