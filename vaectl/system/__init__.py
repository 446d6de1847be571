"""The machine: files, devices, signals, and the launcher."""
