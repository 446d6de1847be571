"""Things that commands share: options, the screen, runs that are opened, evaluations."""
