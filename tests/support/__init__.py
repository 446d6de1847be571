"""Things that several test modules use: small data, specs, trainings, files and what is asserted of them."""
