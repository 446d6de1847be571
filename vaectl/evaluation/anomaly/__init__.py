"""Anomaly scores, their calibration, and how well they tell known anomalies."""
