"""Benchmarks: vaectl's epoch and start-up beside other people's, timed in one interleaved run."""
