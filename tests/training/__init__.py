"""Tests of ``vaectl.training``."""
