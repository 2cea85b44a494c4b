"""Which orders of batches are compared by the experiments on what rows share?"""

import numpy as np

from bnjax.data import LabelledImages, random_batches, single_class_batches

COMPARED_ORDERS = {"random": random_batches, "single_class": single_class_batches}


def check_orders(data: LabelledImages, batch_size: int, **options: str) -> None:
    """Raise ValueError if the data cannot fill the batches of some order, before any network is trained."""
    for order in COMPARED_ORDERS.values():
        order(data.labels, batch_size, np.random.default_rng(0), **options)
