"""The compiled file's own hash, which its tasks carry, so that lineage leads from a model to the pipeline that made it."""

import hashlib
import re
from pathlib import Path

HASH_VARIABLE = "SLIPWAY_IR_HASH"
HASH_PLACEHOLDER = "to-be-replaced-by-the-hash-of-this-file"


def seal_ir(content: bytes) -> tuple[bytes, str]:
    """A compiled file with its hash in place of each HASH_PLACEHOLDER, and that hash: SHA-256 of `content`, before."""
    digest = hashlib.sha256(content).hexdigest()
    return content.replace(HASH_PLACEHOLDER.encode(), digest.encode()), digest


def read_ir_hash(ir: Path) -> str:
    """The hash in a compiled file; "" where it was compiled by other means."""
    found = re.search(rf"name: {HASH_VARIABLE}\n\s+value: ([0-9a-f]{{64}})", ir.read_text())
    return found.group(1) if found else ""
