"""What became of each file of recorded numbers, as a table and one closing line, whichever process a test ran in."""

from __future__ import annotations

from typing import Any

import pytest

from .reference import Reference

KEY = "recorded numbers"
OUT_OF_SCOPE = "out of scope"
ROWS = pytest.StashKey[list[dict[str, Any]]]()


def row(file: Reference) -> dict[str, Any]:
    """Plain values, which travel with a test's report."""
    reasons: dict[str, list[str]] = {}
    for key, reason in file.not_covered.items():
        reasons.setdefault(reason, []).append(key)
    return {
        "name": file.name,
        "has_adapter": file.has_adapter,
        "checked": len(file.checked),
        "facts": len(file.facts),
        "inputs": len(file.inputs),
        "open": sum(len(keys) for reason, keys in reasons.items() if not reason.startswith(OUT_OF_SCOPE)),
        "out_of_scope": sum(len(keys) for reason, keys in reasons.items() if reason.startswith(OUT_OF_SCOPE)),
        "reasons": reasons,
        "worst": list(file.worst),
        "failed": len(file.failures),
    }
