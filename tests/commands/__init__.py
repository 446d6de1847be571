"""Tests of ``vaectl.commands``."""
