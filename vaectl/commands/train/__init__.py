"""``vaectl train``: a run that begins or goes on, on the screen and in its folder."""
