"""A file that one process at a time holds, and that says who does. The kernel lets go of it when the process dies."""

import fcntl
import os
from pathlib import Path
from typing import IO

from meadow.errors import FileHeld

LONGEST_OWNER = 200


def hold(path: Path, owner: str = "") -> IO[str]:
    """Make the file if it is missing, and hold it until what is given is closed; raises `FileHeld` or OSError.

    Others are told that `owner` has it, by default this process.
    """
    file = path.open("a+", encoding="utf-8", errors="replace")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.truncate(0)
        file.write(f"{owner or f'process {os.getpid()}'}\n")
        file.flush()
    except (BlockingIOError, PermissionError) as exc:
        file.seek(0)
        holder = file.read(LONGEST_OWNER).strip() or "another process"
        file.close()
        raise FileHeld(holder) from exc
    except OSError:
        file.close()
        raise
    return file
