"""The depth of numbers of 16 bits: a remark if they fill a small part of the range only."""

from __future__ import annotations

# the largest number of 16 bits, and the part of the range below which fewer bits were probably meant
LARGEST_SIXTEEN, SMALL_PART = 65535, 1 / 8


def depth_remark(largest: float) -> str | None:
    """A remark on unsigned numbers of 16 bits that are divided by 65535 though all are small; None if they are not.

    Args:
        largest: The largest number.
    """
    if not 0 < largest < LARGEST_SIXTEEN * SMALL_PART:
        return None
    bits = round(largest).bit_length()
    return (
        f"its numbers of 16 bits go to {largest:,.0f} of {LARGEST_SIXTEEN:,}, so pictures are nearly black: if they "
        f"have {bits} bits, multiply them by {2 ** (16 - bits)} and save them again"
    )
