"""Benchmarks: the engine and the service beside their peers, in one run, as ratios.

`python -m benchmarks` runs them; docs/performance.md says how they are measured.
"""
