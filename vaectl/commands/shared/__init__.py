"""Things that commands share: options, the screen, and runs opened with their data and models."""
