"""Benchmarks: vaectl's training, start-up, memory and use beside other people's and beside the floor."""
