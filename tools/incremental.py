"""What a build need not make again."""

from __future__ import annotations

import re
import shlex
from pathlib import Path


def remember(path: Path, flags: list[str]) -> bool:
    """Writes the flags down; whether they are those of the last build."""
    text = shlex.join(flags)
    same = path.exists() and path.read_text() == text
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return same


def is_current(target: str | Path) -> bool:
    """Whether an object is newer than all it was made from, as the compiler's -MMD file lists."""
    listing = Path(target).with_suffix(".d")
    if not Path(target).exists() or not listing.exists():
        return False
    made = Path(target).stat().st_mtime
    inputs = re.sub(r"^.*?:|\\\n", " ", listing.read_text(), flags=re.DOTALL | re.MULTILINE).split()
    return all(Path(name).exists() and Path(name).stat().st_mtime < made for name in inputs)
