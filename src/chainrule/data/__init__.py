"""Data to train on: the bundled handwritten digits, readers for tables of one's own, and text.

Plain NumPy arrays go out of here; nothing in this package knows tensors, gradients or models.

    digits = load_digits().to_dataset()                 # or read_table("iris.csv", target="species")
    train, test = split(digits, test_fraction=0.2, seed=0)
    scale = Standardizer.fit(train.inputs)              # statistics of the training rows only
    inputs = scale(train.inputs)
    for rows in batches(len(train), 64, seed=0, epoch=3):
        step(inputs[rows], train.targets[rows])

How text is cut up is in `chainrule.data.text`.
"""

from chainrule.data.augmentation import turned_and_shifted
from chainrule.data.dataset import DataError, DataFileNotFoundError, Dataset, Task
from chainrule.data.digits import Digits, load_digits
from chainrule.data.sampling import batches, split
from chainrule.data.standardizer import Standardizer
from chainrule.data.table import MAX_CATEGORIES, MAX_INTEGER_CLASSES, read_table
from chainrule.data.text import Vocabulary, load_manual, read_text

__all__ = [
    "MAX_CATEGORIES",
    "MAX_INTEGER_CLASSES",
    "DataError",
    "DataFileNotFoundError",
    "Dataset",
    "Digits",
    "Standardizer",
    "Task",
    "Vocabulary",
    "batches",
    "load_digits",
    "load_manual",
    "read_table",
    "read_text",
    "split",
    "turned_and_shifted",
]
