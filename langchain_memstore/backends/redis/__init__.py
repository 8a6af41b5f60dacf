"""The Redis backends: one server, a Sentinel service, a Cluster."""
