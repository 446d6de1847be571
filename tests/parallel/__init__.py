"""Tests of ``vaectl.parallel``."""
