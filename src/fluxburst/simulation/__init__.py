"""A simulated Flux: an instance in memory with a virtual clock, and recorded queues."""
