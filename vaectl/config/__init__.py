"""What a run is, as plain values without torch: specs, recipes and settings."""
