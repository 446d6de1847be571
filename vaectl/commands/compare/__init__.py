"""``vaectl compare``: runs side by side, on the screen and as a report."""
