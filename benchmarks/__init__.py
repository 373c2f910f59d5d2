"""Data sets, protocols, ranking metrics, latency, memory and the report."""
