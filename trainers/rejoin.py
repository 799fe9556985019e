"""A worker that begins anew when another one is lost: TensorFlow cannot let a process do so."""

import contextlib
import os
import sys
import time
from collections.abc import Iterator

# For who was lost to be gone for the others too: they would take its successor for it.
_PAUSE_SECONDS = 2.0


@contextlib.contextmanager
def rejoining() -> Iterator[None]:
    """Executes the program anew, as the same process, if a worker of its cluster is lost within."""
    from zoo.distribution import PeerLost

    try:
        yield
    except PeerLost as error:
        name = os.path.basename(sys.argv[0])
        print(f"{name}: {error}: waiting for all workers", file=sys.stderr, flush=True)
        sys.stdout.flush()
        time.sleep(_PAUSE_SECONDS)
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
