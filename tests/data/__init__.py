"""Tests of ``vaectl.data``."""
