"""Run folders: training, resuming, evaluating and comparing runs."""
