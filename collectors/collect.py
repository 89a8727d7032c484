"""Rollouts to a dataset: makes the specs, runs those that are missing, and keeps account of them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from shopfloor import platforms
from shopfloor.collectors.config import PURPOSE_SEEDS as PURPOSE_SEEDS
from shopfloor.collectors.config import CollectConfig as CollectConfig
from shopfloor.collectors.executors import Executor, make_executor, signals
from shopfloor.collectors.jobs import PREPARE, RUN_EPISODE
from shopfloor.collectors.provenance import environment, now, replace_json
from shopfloor.collectors.sources import policy_ref
from shopfloor.core import (
    CancelledError,
    EpisodeSpec,
    InvalidInputError,
    Receipt,
    ShopfloorError,
)
from shopfloor.datasets.disk.errors import disk_error
from shopfloor.datasets.format import kinds
from shopfloor.datasets.listing.manifest import list_dataset
from shopfloor.datasets.listing.overlays import load_overlays, tombstoned
from shopfloor.datasets.writer import EpisodeWriter, write_manifest
from shopfloor.envs.registry import resolve_cell

RECEIPTS, RUN = "receipts.jsonl", "run.json"


@dataclass(frozen=True)
class CollectResult:
    """What came of a run.

    Attributes:
        receipts: one for each episode asked for, sorted by index; none for one that was purged and
            of which no account is left.
        dataset: the dataset's folder.
        cell: full id.
        resumed: how many were already there.
        infrastructure: how many could not be run for the machine's fault.
        policy: what the policy's info says, JSON.
    """

    receipts: tuple[Receipt, ...]
    dataset: Path
    cell: str
    resumed: int
    infrastructure: int
    policy: Mapping[str, Any] = field(default_factory=dict)

    @property
    def successes(self) -> int:
        """Number of successful episodes."""
        return sum(receipt.outcome == "success" for receipt in self.receipts)

    @property
    def exit_code(self) -> int:
        """0, or 3 where an episode failed for the machine's fault."""
        return 3 if self.infrastructure else 0


def collect(
    config: CollectConfig | None = None,
    *,
    executor: Executor | None = None,
    workers: int | str = 1,
    on_receipt: Callable[[Receipt], None] | None = None,
    **options: Any,  # noqa: ANN401  # see CollectConfig.of
) -> CollectResult:
    """Run episodes and commit each to a dataset; what is already there is not run again.

    Args:
        config: what to collect; or give its fields, and those of its `CellChoice`, as keyword
            arguments: ``collect(cell="Kitting", out="data", episodes=5, cameras="front,wrist")``.
        executor: runs the episodes; kept open. Without one, that of `workers` is made and closed.
        workers: number of worker processes, 1 for none but this one, or the address of an engine
            such as "local:4" (see `shopfloor.collectors.executors.make_executor`).
        on_receipt: called with each new receipt, after the episode is safe on disk.
        **options: where `config` is not given; see `CollectConfig.of`.

    Returns:
        The receipts of all episodes asked for.

    Raises:
        InvalidInputError: if the options do not fit together or `out` holds something else (nothing
            is touched then).
        DiskError: if the disk is full or fails; everything reported is whole and the run can be
            repeated.
        CancelledError: if a signal asked to stop; the same.
    """
    if config is None:
        if "cell" not in options:
            raise InvalidInputError("collect needs `cell`: a work cell, such as 'PickToTray'.")
        config = CollectConfig.of(**options)
    elif options:
        raise InvalidInputError(
            f"Give either a config or its fields, not both: {', '.join(sorted(options))}."
        )

    with signals.handling(), contextlib.ExitStack() as stack:
        running = executor if executor is not None else stack.enter_context(make_executor(workers))
        return _Collection(config, running).run(on_receipt)


class _Collection:
    """One call of `collect`."""

    def __init__(self, config: CollectConfig, executor: Executor) -> None:
        self.config, self.choice, self.executor = config, config.cell, executor
        self.out = Path(config.out).absolute()
        self.cell = resolve_cell(config.cell.cell)
        self.policy = policy_ref(config.policy, self.cell, config.cell.robot)
        self.teacher = policy_ref(config.teacher, self.cell) if config.teacher is not None else None

    def run(self, on_receipt: Callable[[Receipt], None] | None) -> CollectResult:
        """Run what is missing."""
        check_folder(self.out)
        self.prepared = self._prepare()
        self.description = self._describe()
        specs = self._specs()
        EpisodeWriter(self.out, self.description, codec=self.config.codec)
        there, gone = self._committed(specs)
        journal = _Journal(self.out, self._run_entry())
        receipts = dict(there)
        status = "failed"

        try:
            missing = [
                index for index in range(len(specs)) if index not in there and index not in gone
            ]

            for receipt in self._new_receipts(specs, missing):
                journal.add(receipt)
                receipts[receipt.index] = receipt
                if on_receipt is not None:
                    on_receipt(receipt)

            write_manifest(self.out)
            status = "finished"
        except CancelledError:
            status = "cancelled"
            raise
        finally:
            with contextlib.suppress(ShopfloorError):
                if status != "finished":
                    write_manifest(self.out)
                journal.close(status)

        return CollectResult(
            receipts=tuple(receipts[index] for index in sorted(receipts)),
            dataset=self.out,
            cell=self.cell,
            resumed=len(there),
            infrastructure=sum(
                receipt.outcome == "infrastructure" for receipt in receipts.values()
            ),
            policy=self.prepared["policy"],
        )

    def _prepare(self) -> dict[str, Any]:
        """Ask a worker about cell and policies: the driver itself loads neither simulator nor network."""
        payload = {
            "cell": self.cell,
            "robot": self.choice.robot,
            "looks": self.choice.looks,
            "image_size": list(self.choice.image_size) if self.choice.image_size else None,
            "variation": self.choice.variation,
            "policy": self.policy.to_json(),
            "teacher": self.teacher.to_json() if self.teacher else None,
        }

        ((_, prepared),) = self.executor.run(PREPARE, [payload], timeout_s=self.config.timeout_s)
        return prepared

    def _describe(self) -> dict[str, Any]:
        """Return the cell's description with the features this run stores."""
        description: dict[str, Any] = dict(self.prepared["description"])
        features = description["features"]
        kinds.check_cameras(features, self.choice.cameras)

        stored = kinds.recorded_keys(features, self.choice.cameras)
        description["features"] = {key: features[key] for key in stored}
        return description

    def _specs(self) -> list[EpisodeSpec]:
        config = self.config
        options = {
            "robot": self.prepared["description"]["robot"],
            "cameras": list(self.choice.cameras),
            "image_size": self.prepared["image_size"],
            **self.choice.looks,
        }

        teacher = self.prepared["teacher"]

        return [
            EpisodeSpec(
                cell=self.cell,
                seed=config.seed + index,
                policy_digest=self.prepared["policy"]["digest"],
                cell_options=options,
                variation=self.prepared["variation"],
                teacher_digest=teacher["digest"] if teacher else "",
                intervention=config.intervene,
                action_noise=float(config.noise),
                purpose=config.purpose,
            )
            for index in range(config.episodes)
        ]

    def _committed(self, specs: Sequence[EpisodeSpec]) -> tuple[dict[int, Receipt], set[int]]:
        """Return receipts of the episodes that are already there: the files are the truth.

        Deleted ones count as there, purged ones, too: nobody wants them made again. Those of the
        latter of which no account is left come as the second part, without a receipt.
        """
        left_out = tombstoned(load_overlays(self.out))
        records = {record.episode_id: record for record in list_dataset(self.out, left_out).records}
        earlier = {receipt.episode_id: receipt for receipt in read_receipts(self.out)}
        there: dict[int, Receipt] = {}
        gone = set()

        for index, spec in enumerate(specs):
            record = records.get(spec.episode_id)
            hint = earlier.get(spec.episode_id)
            if record is None:
                if spec.episode_id in left_out and hint is not None:
                    there[index] = dataclasses.replace(hint, index=index)
                elif spec.episode_id in left_out:
                    gone.add(index)
                continue

            same = hint is not None and hint.sha256 == record.sha256
            there[index] = Receipt(
                episode_id=record.episode_id,
                index=index,
                seed=record.seed,
                outcome=record.outcome,
                reason=record.reason,
                steps=record.steps,
                path=record.file,
                sha256=record.sha256,
                bytes=record.bytes,
                attempt=hint.attempt if hint and same else 1,
                seconds=hint.seconds if hint and same else 0.0,
                cpu_seconds=hint.cpu_seconds if hint and same else 0.0,
                expert_steps=record.expert_steps,
            )

        return there, gone

    def _new_receipts(
        self, specs: Sequence[EpisodeSpec], missing: Sequence[int]
    ) -> Iterator[Receipt]:
        common = {
            "policy": self.policy.to_json(),
            "teacher": self.teacher.to_json() if self.teacher else None,
            "attempt": 1,
            "out": str(self.out),
            "codec": self.config.codec,
            "description": self.description,
        }

        payloads = ({**common, "spec": specs[index].to_json(), "index": index} for index in missing)
        for position, result in self.executor.run(
            RUN_EPISODE, payloads, timeout_s=self.config.timeout_s, keep_going=True
        ):
            index = missing[position]
            if "quarantined" not in result:
                yield Receipt.from_json(result)
                continue

            yield Receipt(
                episode_id=specs[index].episode_id,
                index=index,
                seed=specs[index].seed,
                outcome="infrastructure",
                reason=result["reason"],
                attempt=result["attempts"],
                message=result["message"],
            )

    def _run_entry(self) -> dict[str, Any]:
        config = asdict(self.config) | {
            **asdict(self.choice),
            "cell": self.cell,
            "policy": self.policy.to_json(),
            "teacher": self.teacher.to_json() if self.teacher else None,
            "out": str(self.out),
            "cameras": list(self.choice.cameras),
            "modalities": list(self.choice.modalities),
            "image_size": self.prepared["image_size"],
        }

        return {
            "command": "collect",
            "config": config,
            "policy": self.prepared["policy"],
            "teacher": self.prepared["teacher"],
            "workers": self.executor.workers,
            **environment(),
        }


class _Journal:
    """`receipts.jsonl` and `run.json`: the account of runs. A hint for people; the episode files are the truth."""

    def __init__(self, out: Path, entry: dict[str, Any]) -> None:
        self._path = out / RUN
        self._runs = [
            *_earlier_runs(self._path),
            {**entry, "started": now(), "finished": None, "status": "running"},
        ]

        self._receipts = out / RECEIPTS
        try:
            flags = platforms.CLOSED_IN_CHILDREN | platforms.AS_IT_IS
            self._fd = os.open(self._receipts, os.O_RDWR | os.O_CREAT | os.O_APPEND | flags, 0o666)
            size = os.fstat(self._fd).st_size
            if size and platforms.read_at(self._fd, 1, size - 1) != b"\n":
                os.write(self._fd, b"\n")  # the last run was killed within a line
        except OSError as error:
            raise disk_error(self._receipts, error) from error

        self._save()

    def add(self, receipt: Receipt) -> None:
        """Append a receipt."""
        line = json.dumps(receipt.to_json(), separators=(",", ":")) + "\n"
        try:
            os.write(self._fd, line.encode())
        except OSError as error:
            raise disk_error(self._receipts, error) from error

    def close(self, status: str) -> None:
        """Say how the run ended."""
        os.close(self._fd)
        self._runs[-1] |= {"finished": now(), "status": status}
        self._save()

    def _save(self) -> None:
        replace_json(self._path, {"schema_version": 1, "runs": self._runs})


def _earlier_runs(path: Path) -> list[dict[str, Any]]:
    try:
        runs = json.loads(path.read_text())["runs"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return runs if isinstance(runs, list) else []


def read_receipts(dataset: Path) -> list[Receipt]:
    """Return the receipts of a dataset's `receipts.jsonl`; a line cut short by a kill is left out."""
    receipts = []
    try:
        lines = (dataset / RECEIPTS).read_text(errors="replace").splitlines()
    except OSError:
        return []
    for line in lines:
        with contextlib.suppress(ValueError, TypeError):
            receipts.append(Receipt.from_json(json.loads(line)))
    return receipts


def check_folder(out: Path) -> None:
    """Refuse an output folder that holds something other than a dataset, before anything is touched."""
    if not out.exists():
        above = next(folder for folder in out.parents if folder.exists())
        if not above.is_dir():
            raise InvalidInputError(
                f"{out} cannot be made: {above} is a file. Choose another --out."
            )

        return
    if not out.is_dir():
        raise InvalidInputError(
            f"{out} is a file; expected a folder for the dataset. Choose another --out."
        )

    names = [path.name for path in out.iterdir()]
    if "dataset.json" in names:
        return

    foreign = [name for name in names if name != "episodes" and not name.endswith(".tmp")]
    if foreign:
        raise InvalidInputError(
            f"{out} holds something else ({', '.join(sorted(foreign)[:3])}) and no dataset.json; "
            "expected a new or empty folder, or a dataset to continue. Choose another --out."
        )
