"""Model folders as older versions wrote them."""

import json
from pathlib import Path

from hescribe.bench.model_folder import CHECKSUM


def without_checksum(index: Path) -> None:
    """Let ``model.json`` or ``aligner.json`` say nothing of the weights beside it."""
    content = json.loads(index.read_text())
    del content[CHECKSUM]
    index.write_text(json.dumps(content))
