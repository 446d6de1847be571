"""Tests of ``vaectl.runs``."""
