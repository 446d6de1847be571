"""Tests of ``vaectl.output``."""
