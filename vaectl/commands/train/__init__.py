"""``vaectl train``: train a new run or resume one, with its screen."""
