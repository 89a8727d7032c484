"""The mutual information of states and actions that an episode adds, as in DemInf.

Hejna et al. 2025 (arXiv 2502.08623) score a demonstration by what its steps contribute to the
k-nearest-neighbour estimate (Kraskov, Stoegbauer and Grassberger 2004) of I(state; chunk of
actions), averaged over several k and over random batches. They embed pictures and chunks with
variational autoencoders; here the embedding is principal components of standardised numbers: the
robot's state and, where it is known, where things are from the tool.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from shopfloor.datasets.quality.series import Array, Series

STEPS = 24  # of each episode that are looked at
CHUNK_S = (0.0, 0.1, 0.2, 0.3)  # actions that stand for what comes next, seconds ahead
# k-NN estimates need few dimensions; measured on the tuning set of docs/quality.md.
STATE_DIMENSIONS = 4
CHUNK_DIMENSIONS = 4
NEIGHBOURS = (5, 6, 7)
BATCH = 1536  # pairs compared with each other at a time
ROUNDS = 2  # batches that each pair is in
EULER = 0.5772156649015329
Pairs = npt.NDArray[np.float32]


def sample_pairs(series: Series, hz: float, generator: np.random.Generator) -> tuple[Pairs, Pairs]:
    """Return states and the chunks of commands that follow, at up to `STEPS` steps of an episode.

    Returns:
        Shapes (M, C + 3 N) and (M, len(CHUNK_S) * A), float32.
    """
    T = series.steps
    chosen = (
        np.sort(generator.choice(T, min(STEPS, T), replace=False)) if T else np.zeros(0, np.int64)
    )
    ahead = [np.minimum(chosen + round(seconds * hz), max(T - 1, 0)) for seconds in CHUNK_S]
    chunks = np.concatenate([series.commands[steps] for steps in ahead], axis=1)
    states = np.concatenate([series.numbers[chosen], series.scene[chosen]], axis=1)

    return states.astype(np.float32), chunks.astype(np.float32)


def scores(pairs: Sequence[tuple[Pairs, Pairs]], generator: np.random.Generator) -> Array:
    """Return each episode's mean contribution to the mutual information, nats.

    Args:
        pairs: what `sample_pairs` returns of N episodes of one cell.
        generator: draws the batches.

    Returns:
        Shape (N,), float64; NaN for an episode without steps, and for all where there are too few
        pairs.
    """
    all_states, all_chunks = zip(*pairs, strict=True)
    owner = np.repeat(np.arange(len(pairs)), list(map(len, all_states)))
    if len(owner) <= 8 * max(NEIGHBOURS):
        return np.full(len(pairs), np.nan)

    states = principal(np.concatenate(all_states), STATE_DIMENSIONS)
    chunks = principal(np.concatenate(all_chunks), CHUNK_DIMENSIONS)
    total, seen = np.zeros(len(pairs)), np.zeros(len(pairs))

    for _ in range(ROUNDS):
        order = generator.permutation(len(owner))
        for batch in np.array_split(order, max(len(order) // BATCH, 1)):
            np.add.at(total, owner[batch], contributions(states[batch], chunks[batch]))
            np.add.at(seen, owner[batch], 1.0)

    return np.where(seen > 0, total / np.maximum(seen, 1.0), np.nan)


def principal(rows: npt.NDArray[np.floating], dimensions: int) -> Array:
    """Return standardised rows in their first principal components, float64.

    Returns:
        Shape (M, dimensions or fewer).
    """
    centred = rows.astype(np.float64) - rows.mean(axis=0, dtype=np.float64)
    spread = centred.std(axis=0)
    centred = centred[:, spread > 1e-9] / spread[spread > 1e-9]
    if not centred.shape[1]:
        return np.zeros((len(rows), 1))
    _, vectors = np.linalg.eigh(centred.T @ centred)
    axes = vectors[:, ::-1][:, :dimensions]
    return np.asarray(centred @ axes, dtype=np.float64)


def contributions(states: Array, chunks: Array) -> Array:
    """Return what each pair adds to Kraskov's first estimate of the mutual information, averaged over `NEIGHBOURS`.

    For a pair i with e(i) the larger of the two distances to its k-th neighbour in the joint space,
    it is

        psi(k) + psi(M) - psi(n_s(i) + 1) - psi(n_a(i) + 1),

    n the number of others nearer than e(i) in one space alone.

    Args:
        states: shape (M, d), M more than the largest k.
        chunks: shape (M, e).

    Returns:
        Shape (M,), float64, nats.
    """
    M = len(states)
    one, other = _distances(states), _distances(chunks)
    joint = np.maximum(one, other)
    np.fill_diagonal(joint, np.inf)
    nearest = np.partition(joint, max(NEIGHBOURS) - 1, axis=1)[:, : max(NEIGHBOURS)]
    nearest.sort(axis=1)
    psi = np.concatenate(
        [[np.nan], np.cumsum(np.concatenate([[-EULER], 1.0 / np.arange(1, M + 1)]))]
    )
    out = np.zeros(M)

    for k in NEIGHBOURS:
        reach = nearest[:, k - 1, None]
        # Each point is at distance 0 from itself: it stands for the + 1.
        near_state = np.maximum((one < reach).sum(axis=1), 1)
        near_chunk = np.maximum((other < reach).sum(axis=1), 1)
        out += psi[k] + psi[M] - psi[near_state] - psi[near_chunk]

    return out / len(NEIGHBOURS)


def _distances(rows: Array) -> npt.NDArray[np.float32]:
    squares = (rows * rows).sum(axis=1)
    distance = np.sqrt(np.maximum(squares[:, None] + squares - 2.0 * (rows @ rows.T), 0.0))
    np.fill_diagonal(distance, 0.0)
    out: npt.NDArray[np.float32] = distance.astype(np.float32)
    return out
