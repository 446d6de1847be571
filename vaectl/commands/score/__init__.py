"""``vaectl score``: anomaly scores, calibrated."""
