"""A Flux that is not there: an instance in memory with a virtual clock, and recorded queues."""
