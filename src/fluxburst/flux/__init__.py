"""The live Flux instance: its protocol, connections, event streams, resources."""
