"""What lives as long as its process."""

import gc


def settle() -> None:
    """To be called once, when all is imported: the garbage collector leaves alone what there is now.

    Its walks through hundreds of thousands of objects that never die held up the API for 80 to 120 ms each (measured).
    """
    gc.freeze()
