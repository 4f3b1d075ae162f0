"""How Python looks for garbage in a process of Meadow's."""

import gc

FEW_LOOKS = (20_000, 20, 20)
"""Facts and rows come by the ten thousand and hold no cycles: Python's own 700 looks at them all several times."""


def prepare() -> None:
    """To be called when everything is loaded and started: what is there now stays, and need not be looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*FEW_LOOKS)
