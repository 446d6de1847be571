"""digits: scikit-learn's 1,797 real handwritten digits of 8 x 8 pixels, built in."""

from __future__ import annotations

import numpy as np

from vaectl.data.base import Loading, Raw

TEST_EXAMPLES = 300


def load_digits(loading: Loading) -> Raw:
    """Load 1,497 training and 300 test digits, the same rows every time, with 17 grey levels spread over a byte.

    References:
        Optical Recognition of Handwritten Digits (Alpaydin and Kaynak, 1998), https://doi.org/10.24432/C50P49
    """
    from sklearn import datasets

    bunch = datasets.load_digits()
    order = np.random.RandomState(0).permutation(len(bunch.images))
    images = np.rint(bunch.images[order] * (255 / 16)).astype(np.uint8)[:, None]  # (N, 1, 8, 8)
    labels = bunch.target[order].astype(np.int64)
    train, test = slice(TEST_EXAMPLES, None), slice(TEST_EXAMPLES)
    return Raw(images[train], labels[train], images[test], labels[test])
