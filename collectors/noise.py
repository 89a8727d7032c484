"""Noise on executed actions, so that demonstrations also visit the states a learner drifts into (DART, Laskey 2017)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shopfloor.core import FloatArray

CORRELATION = 0.8  # of the noise from one step to the next


class MotionNoise:
    """A first-order autoregressive process, scaled by the size of each step's motion."""

    def __init__(
        self, generator: np.random.Generator, scale: float, axes: npt.NDArray[np.bool_]
    ) -> None:
        """Start an episode's noise.

        Args:
            generator: the episode's "noise" stream.
            scale: standard deviation at full motion, in units of a full action; 0 adds nothing.
            axes: shape (A,), bool, the axes that get noise.
        """
        self._generator = generator
        self._scale = scale
        self._axes = axes
        self._level = np.zeros(len(axes))

    def perturb(self, action: FloatArray) -> FloatArray:
        """Return the action to execute for a clean command, shape (A,), float32, in [-1, 1]."""
        if self._scale == 0.0:
            return action
        fresh = self._generator.standard_normal(len(self._axes))
        self._level = CORRELATION * self._level + np.sqrt(1 - CORRELATION**2) * fresh
        size = np.max(np.abs(action[self._axes]), initial=0.0)
        noisy = action + np.where(self._axes, self._scale * size * self._level, 0.0)
        return np.clip(noisy, -1.0, 1.0).astype(np.float32)
