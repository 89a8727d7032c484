"""What to collect and what to evaluate: the configurations, which are also the flags. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from tyro.conf import PositionalRequiredArgs, Suppress, arg

from shopfloor.collectors.choice import CONDITIONS, CellChoice, renamed
from shopfloor.errors import InvalidInputError, UnknownNameError
from shopfloor.flags import FirstSeed, Maybe, PolicyName
from shopfloor.specs import PURPOSES, TIMEOUT_S

CodecName = Literal["blosc", "gzip", "none"]
PurposeName = Literal["train", "gate", "report", "other"]

CODECS: tuple[str, ...] = get_args(CodecName)
PURPOSE_SEEDS = {"train": (0, 600_000), "gate": (700_000, 800_000), "report": (800_000, 900_000)}
OLD_NAMES = {"seed_first": "seed", "intervention": "intervene"}


@dataclass(frozen=True)
class CollectConfig:
    """What to collect; `of` makes one from single options.

    Attributes:
        cell: the cell and the conditions; a name stands for the cell's usual ones.
        out: folder of the dataset; an interrupted or shorter run there is continued.
        policy: who acts: the scripted expert, uniform random actions, or a checkpoint folder.
        episodes: episodes to have in the end, failed ones included.
        seed: first seed; episode i has seed FIRST + i. Below 600000 for training data.
        intervene: the expert's help: none; expert: it takes over when the policy strays; label: it
            labels every visited state; own: it acts and labels; or an installed package's name.
        teacher: who labels or takes over: "expert", a checkpoint's folder or a reference; None: the
            expert where one is needed.
        noise: scale of the noise on executed actions, in units of a full action; the clean command
            is kept as label.
        purpose: what the episodes may be used for; train refuses the others.
        codec: compression; gzip opens in any HDF5 reader, blosc after `import hdf5plugin`.
        timeout_s: wall time after which an episode counts as hanging; needs more than one worker.
    """

    cell: Annotated[PositionalRequiredArgs[CellChoice], arg(name="")]
    out: Path
    policy: PolicyName = "expert"
    episodes: int = 10
    seed: FirstSeed = 0
    intervene: Annotated[str, arg(metavar="none|expert|label|own|NAME")] = "none"
    teacher: Suppress[Maybe[PolicyName]] = None
    noise: float = 0.0
    purpose: PurposeName = "train"
    codec: CodecName = "blosc"
    timeout_s: Suppress[float] = TIMEOUT_S

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        # Imported here because it needs NumPy, which the help of the flags must not wait for.
        from shopfloor.collectors.interventions import make_intervention

        object.__setattr__(self, "cell", CellChoice.of(self.cell, {}))
        object.__setattr__(self, "out", Path(self.out))

        for kind, name, known in (
            ("purpose", self.purpose, PURPOSES),
            ("codec", self.codec, CODECS),
        ):
            if name not in known:
                raise UnknownNameError(kind, name, known)

        if self.episodes < 1:
            raise InvalidInputError(f"Number of episodes is {self.episodes}; expected at least 1.")
        if not 0.0 <= self.noise <= 1.0:
            raise InvalidInputError(
                f"Noise is {self.noise}; expected 0 to 1, in units of a full action."
            )

        needs_teacher = make_intervention(self.intervene).needs_teacher
        if self.teacher is not None and not needs_teacher:
            raise InvalidInputError(
                f"Teacher {self.teacher!r} with intervene={self.intervene!r} would do nothing; "
                "expected 'label' or 'expert', or no teacher."
            )

        if self.teacher is None and needs_teacher:
            object.__setattr__(self, "teacher", "expert")

        self._check_seeds()

    @classmethod
    def of(cls, cell: str | CellChoice, **options: Any) -> CollectConfig:  # noqa: ANN401  # fields
        """Make a configuration from single options.

        Args:
            cell: cell id or bare name, or a whole `CellChoice`.
            **options: fields of `CollectConfig` and, beside a cell's name, of `CellChoice`.
        """
        choice, given = _parted(cls, cell, options)
        if "out" not in given:
            raise InvalidInputError("collect needs `out`: the folder of the dataset.")
        return cls(choice, **given)

    def _check_seeds(self) -> None:
        low, high = PURPOSE_SEEDS.get(self.purpose, (0, 1 << 32))
        if low <= self.seed and self.seed + self.episodes <= high:
            return

        advice = "" if self.purpose == "other" else " Purpose 'other' takes any seed."
        raise InvalidInputError(
            f"Seeds {self.seed} to {self.seed + self.episodes - 1} are outside the range of "
            f"purpose {self.purpose!r}, {low} to {high - 1}.{advice}"
        )


@dataclass(frozen=True)
class EvaluateConfig:
    """What to evaluate; `of` makes one from single options.

    Attributes:
        policy: the scripted expert, uniform random actions, or a checkpoint folder.
        cell: the cell and the conditions; a name stands for the cell's usual ones.
        episodes: number of episodes.
        seed: first seed; episode i has seed FIRST + i.
        out: keep the episodes as a dataset in this folder, so that the evaluation resumes.
        purpose: "gate", "report", "train" or "other"; None for the one that the seeds are reserved
            for: "report" or "gate", else "other".
        noise: scale of the noise on executed actions, in units of a full action.
        timeout_s: wall time after which an episode counts as hanging; needs more than one worker.
    """

    policy: PolicyName
    cell: Annotated[CellChoice, arg(name="")]
    episodes: int = 100
    seed: FirstSeed = 800_000
    out: Maybe[Path] = None
    purpose: Suppress[Maybe[PurposeName]] = None
    noise: Suppress[float] = 0.0
    timeout_s: Suppress[float] = TIMEOUT_S

    @classmethod
    def of(
        cls,
        policy: PolicyName,
        cell: str | CellChoice,
        **options: Any,  # noqa: ANN401  # fields
    ) -> EvaluateConfig:
        """Make a configuration from single options.

        Args:
            policy: "expert", "random", a checkpoint's folder, or a reference.
            cell: cell id or bare name, or a whole `CellChoice`.
            **options: fields of `EvaluateConfig` and, beside a cell's name, of `CellChoice`.
        """
        choice, given = _parted(cls, cell, options)
        return cls(policy, choice, **given)

    def collection(self, out: Path | str) -> CollectConfig:
        """Return what to collect for this evaluation, into a folder."""
        return CollectConfig(
            self.cell,
            Path(out),
            policy=self.policy,
            episodes=self.episodes,
            seed=self.seed,
            noise=self.noise,
            purpose=self.purpose or purpose_of(self.seed, self.episodes),
            timeout_s=self.timeout_s,
        )


def purpose_of(seed: int, episodes: int) -> PurposeName:
    """Return what episodes of these seeds are for: report or gate where all lie in that range, else other."""
    purposes: tuple[PurposeName, ...] = ("report", "gate")
    for purpose in purposes:
        low, high = PURPOSE_SEEDS[purpose]
        if low <= seed and seed + episodes <= high:
            return purpose
    return "other"


def _parted(
    kind: type[CollectConfig | EvaluateConfig], cell: str | CellChoice, options: Mapping[str, Any]
) -> tuple[CellChoice, dict[str, Any]]:
    """Divide single options into the cell's and the configuration's."""
    given = renamed(options, OLD_NAMES)
    conditions = {name: given.pop(name) for name in CONDITIONS if name in given}

    known = [field.name for field in fields(kind)]
    for name in given:
        if name not in known:
            raise UnknownNameError("option", name, [*known, *CONDITIONS])

    return CellChoice.of(cell, conditions), given
