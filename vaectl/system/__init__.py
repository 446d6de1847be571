"""The machine: files, devices, signals."""
