"""The configuration: a YAML file and ``--conf`` pairs become one checked `Config`."""

from __future__ import annotations

import difflib
import hashlib
import os
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import platformdirs
import psutil
import yaml

from firstpick.encoders import POOLINGS, TOKENS, UNITS, EncoderSpec, encoder_row
from firstpick.selection import SCALINGS, Guards, check_strategy
from firstpick.selection.guards import OUTLIERS
from firstpick.selection.shares import SHARES
from firstpick.sources.attributes import RULES, read_attribute
from firstpick.sources.folder import Eligibility
from firstpick.voxels.views import ViewSpec


class ConfigError(Exception):
    """The configuration is wrong; the text lists every problem, one a line."""


@dataclass(frozen=True)
class Label:
    """What annotators draw: a name, its value in the label map, its colour."""

    name: str
    value: int
    color: str = "#ffcc00"


@dataclass(frozen=True)
class Groups:
    """How many studies of one patient a batch may hold, and what tells the patient."""

    by: str = "patient"
    max: int = 1


@dataclass(frozen=True)
class Strata:
    """Among what the batch is shared out, and how."""

    by: str = ""
    share: str = "proportional"


@dataclass(frozen=True)
class Slices:
    """How many slices of one study a batch may hold, and how far apart."""

    max_per_study: int = 3
    min_distance_mm: float = 10.0


@dataclass(frozen=True)
class Config:
    """All settings, checked. `KEYS` says what each means."""

    strategy: str = "kmeans"
    batch_size: int = 10
    seed: int = 0
    scaling: str = "l2"
    n_components: int = 32
    params: Mapping[str, Any] = field(default_factory=dict)
    groups: Groups = Groups()
    strata: Strata = Strata()
    duplicates: float = 0.9995
    outliers: str = "keep"
    unit: str = "volume"
    slices: Slices = Slices()
    encoder: str = "dinov2-s"
    weights: str = ""
    pooling: str = "mean"
    layer: str = ""
    tokens: str = ""
    views: ViewSpec = ViewSpec()
    eligible: Eligibility = Eligibility()
    labels: tuple[Label, ...] = (Label("foreground", 1),)
    state_dir: str = ""
    served_gb: float = 20.0
    auto_next: bool = False
    n_workers: int = 0
    n_jobs: int = 0
    time_limit_s: float = 300.0
    rescan_s: float = 10.0

    @property
    def encoder_spec(self) -> EncoderSpec:
        """What decides the numbers of an embedding."""
        return EncoderSpec(self.encoder, self.weights, self.views, self.pooling, self.layer, self.tokens, self.unit)

    @property
    def guards(self) -> Guards:
        """What is kept to, whatever the strategy."""
        limits = (self.slices.max_per_study, self.slices.min_distance_mm) if self.unit == "slice" else (0, 0.0)
        return Guards(self.duplicates, self.groups.max, self.strata.share, self.outliers, *limits)

    def choice(self, strategy: str = "", seed: int | None = None) -> dict[str, Any]:
        """How a batch is chosen, as keywords of `firstpick.proposal.propose`; another strategy has its own defaults."""
        return {
            "strategy": strategy or self.strategy,
            "seed": self.seed if seed is None else seed,
            "scaling": self.scaling,
            "n_components": self.n_components,
            "guards": self.guards,
            "n_jobs": self.n_jobs,
            **(self.params if strategy in ("", self.strategy) else {}),
        }


KEYS: Mapping[str, str] = MappingProxyType(
    {
        "strategy": "How the batch is chosen: a name of `firstpick list strategies`.",
        "batch_size": "Studies in a batch; with unit: slice, slices.",
        "seed": "Seed of the strategy: the same seed gives the same batch.",
        "scaling": f"How features are scaled before the strategy: {', '.join(SCALINGS)}.",
        "n_components": "Principal components kept by the scalings pca and whiten; at most a quarter of the studies.",
        "params": "Parameters of the strategy, by name.",
        "groups.by": f"What tells a patient's studies: {RULES}; empty for nothing.",
        "groups.max": "Studies of one patient in all batches together, while others remain; 0 for any number.",
        "strata.by": "What the batch is shared out among, told in the same ways; empty for nothing.",
        "strata.share": f"How strata share the batch: {', '.join(SHARES)}.",
        "duplicates": "Cosine from which on two studies count as one; 0 for no such search.",
        "outliers": f"What is done with unusual studies: {', '.join(OUTLIERS)}.",
        "unit": f"What is picked: {', '.join(UNITS)}. Of a study, slices are picked together.",
        "slices.max_per_study": "With unit: slice, slices of one study; 0 for any number.",
        "slices.min_distance_mm": "With unit: slice, least distance of two slices of one study in the same plane.",
        "encoder": "What embeds the studies: a name of `firstpick list encoders`.",
        "weights": "A file, folder or hub id with the encoder's weights; empty for its own source.",
        "pooling": f"How the rows of a study's views become one: {', '.join(POOLINGS)}.",
        "layer": "Layer of the network whose output is taken; empty for the encoder's own.",
        "tokens": f"Tokens of a transformer that are taken: {', '.join(TOKENS)}; empty for the encoder's own.",
        "views.planes": "Planes in which a volume is cut: axial, coronal, sagittal.",
        "views.per_plane": "Slices in each plane.",
        "views.every_mm": "Distance of neighbouring slices in mm, instead of per_plane; 0 for per_plane.",
        "views.size": "Side of a view in pixels; 0 for the encoder's own.",
        "views.intensity": "auto (CT windows for CT, percentiles for the rest), ct, or percentile.",
        "views.percentiles": "Percentiles of the foreground that become black and white.",
        "eligible.modalities": "Modalities to keep, such as [CT]; empty for all. A file that states none is kept.",
        "eligible.min_slices": "Least number of slices of a volume.",
        "eligible.min_size_mm": "Least size of a volume along its longest axis, in mm.",
        "eligible.max_spacing_mm": "Largest spacing of a volume, in mm; 0 for any.",
        "eligible.series_description": "Keep only DICOM series whose description matches this regular expression.",
        "eligible.exclude": "Patterns of paths to leave out, such as [phantoms/*].",
        "eligible.localizers": "Keep localizers (scouts), which are left out by default.",
        "eligible.secondary_captures": "Keep secondary captures, which are left out by default.",
        "eligible.masks": "Keep masks, told by names of files and folders or by headers, left out by default.",
        "eligible.system_folders": "Look into folders that storage systems make, such as #recycle.",
        "labels": "What annotators draw: a list of name, value (1 or more) and color (#rrggbb).",
        "state_dir": "Folder for all state, on a local disk; empty for one in the user's state folder.",
        "served_gb": "Gigabytes of files that the server makes for readers, such as of DICOM series.",
        "auto_next": "When a batch is finished, add the next one by itself.",
        "n_workers": "Embedding processes; 0 for one a core.",
        "n_jobs": "Threads that choose a batch; 0 for one a core.",
        "time_limit_s": "Seconds after which reading and encoding one study is given up.",
        "rescan_s": "Seconds between two looks at the studies folder while serving.",
    }
)
"""What each key means; the table of sample_configs/README.md is made from it."""


def load_config(path: str | Path | None = None, overrides: Mapping[str, Any] = MappingProxyType({})) -> Config:
    """Read a YAML file, apply overrides and check everything.

    Parameters
    ----------
    path : str or Path, optional
        None for the defaults.
    overrides : mapping
        Dotted keys such as ``views.size``; values that are strings are read as YAML.

    Raises
    ------
    ConfigError
        With every problem, one a line: file, key, what was got, what is allowed.
    """
    where = str(path) if path else "configuration"
    tree = _read_yaml(path) if path else {}
    problems: list[str] = []
    for key, value in overrides.items():
        _put(tree, key, _parse(value))
    values = _convert(Config, tree, "", problems)
    if not problems:
        config = Config(**values)
        problems = _problems(config)
        if not problems:
            return config
    raise ConfigError("\n".join(f"{where}: {problem}" for problem in problems))


def _read_yaml(path: str | Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        msg = f"{path}: the configuration cannot be read: {error.strerror}."
        raise ConfigError(msg) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        msg = f"{path}: not valid YAML: {' '.join(str(error).split())}"
        raise ConfigError(msg) from error
    if tree is not None and not isinstance(tree, dict):
        msg = f"{path}: must hold keys and values; got a {type(tree).__name__}."
        raise ConfigError(msg)
    return tree or {}


def _parse(value: Any) -> Any:
    """Read a string of the command line as YAML; one that is not YAML stays a string."""
    if not isinstance(value, str):
        return value
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError:
        return value
    return "" if parsed is None else parsed


def _put(tree: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key in nested dicts."""
    first, _, rest = key.partition(".")
    if rest and isinstance(tree.setdefault(first, {}), dict):
        _put(tree[first], rest, value)
    else:
        tree[first] = value


def _convert(kind: type, tree: Mapping[str, Any], prefix: str, problems: list[str]) -> dict[str, Any]:
    """Turn a mapping into keyword arguments for a dataclass, noting every problem."""
    hints = typing.get_type_hints(kind)
    names = [item.name for item in fields(kind)]
    values = {}
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if name not in names:
            near = difflib.get_close_matches(str(name), names, n=1)
            hint = f" Did you mean '{prefix}{near[0]}'?" if near else ""
            problems.append(f"key '{key}' is not known.{hint} Known here: {', '.join(sorted(names))}.")
            continue
        try:
            values[name] = _value(hints[name], value, key, problems)
        except ValueError as error:
            problems.append(str(error))
    return values


def _value(hint: Any, value: Any, key: str, problems: list[str]) -> Any:
    """Check one value against a field's type; ValueError says what is allowed."""
    if is_dataclass(hint) and isinstance(hint, type):
        return _nested(hint, value, key, problems)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        items = value if isinstance(value, list | tuple) else [value]
        if arguments[-1] is not Ellipsis and len(items) != len(arguments):
            msg = f"{key} must be a list of {len(arguments)} values; got {value!r}."
            raise ValueError(msg)
        return tuple(_value(arguments[0], item, f"{key}[{i}]", problems) for i, item in enumerate(items))
    if origin is not None:  # Mapping
        return _nested(dict, value, key, problems)
    return _scalar(hint, value, key)


def _nested(kind: type, value: Any, key: str, problems: list[str]) -> Any:
    """Build a nested dataclass (or take a dict as it is)."""
    if not isinstance(value, Mapping):
        msg = f"{key} must hold keys and values; got {value!r}."
        raise ValueError(msg)  # noqa: TRY004 - one kind of error for all problems of a configuration
    if kind is dict:
        return dict(value)
    n_before = len(problems)
    values = _convert(kind, value, f"{key}.", problems)
    if len(problems) > n_before:
        return None  # load_config raises
    try:
        return kind(**values)
    except TypeError as error:
        missing = [item.name for item in fields(kind) if item.name not in values]
        msg = f"{key} needs {', '.join(missing)} ({error})."
        raise ValueError(msg) from error
    except ValueError as error:
        msg = f"{key}: {error}"
        raise ValueError(msg) from error


def _scalar(hint: type, value: Any, key: str) -> Any:
    """Check a string, integer, number or truth value."""
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    if hint is str and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    words = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
    msg = f"{key} must be {words[hint]}; got {value!r}."
    raise ValueError(msg)


def _problems(config: Config) -> list[str]:
    """What is wrong with values of the right type."""
    problems = []
    checks: list[Callable[[], object]] = [
        lambda: check_strategy(config.strategy, config.params),
        lambda: config.encoder_spec,
        lambda: config.guards,
        lambda: read_attribute((), config.groups.by),
        lambda: read_attribute((), config.strata.by),
    ]
    for check in checks:
        try:
            check()
        except (ValueError, OSError) as error:
            problems.append(str(error))
    if config.scaling not in SCALINGS:
        problems.append(f"scaling '{config.scaling}' is not known. Choose one of {', '.join(SCALINGS)}.")
    for key, least in (
        ("batch_size", 1),
        ("seed", 0),
        ("n_components", 1),
        ("n_jobs", 0),
        ("n_workers", 0),
        ("time_limit_s", 1),
        ("rescan_s", 0.1),
        ("served_gb", 0),
    ):
        if getattr(config, key) < least:
            problems.append(f"{key} must be at least {least}; got {getattr(config, key)}.")
    if not problems and "hub" not in encoder_row(config.encoder).takes and not _is_readable(config.weights):
        problems.append(f"weights '{config.weights}' cannot be read.")
    return problems + _label_problems(config.labels)


def _is_readable(path: str) -> bool:
    return not path or os.access(path, os.R_OK)


def _label_problems(labels: tuple[Label, ...]) -> list[str]:
    problems = []
    for what in ("name", "value"):
        seen = [getattr(label, what) for label in labels]
        problems += [
            f"labels: {what} {item!r} is used twice." for item in sorted({i for i in seen if seen.count(i) > 1})
        ]
    for label in labels:
        if label.value < 1:
            problems.append(f"labels: value of '{label.name}' must be at least 1 (0 is background); got {label.value}.")
        if not re.fullmatch(r"#[0-9a-fA-F]{6}", label.color):
            problems.append(f"labels: color of '{label.name}' must look like #ffcc00; got {label.color!r}.")
    return problems


def state_folder(config: Config, studies_dir: str | Path, *, app_dir: str | Path | None = None) -> Path:
    """Where the state of one studies folder lies.

    Raises
    ------
    ConfigError
        If that is inside the studies or the app folder, or on a network disk,
        where SQLite's locks cannot be trusted.
    """
    studies = Path(studies_dir).resolve()
    if config.state_dir:
        state = Path(config.state_dir).expanduser().resolve()
    else:
        name = f"{studies.name}-{hashlib.sha256(str(studies).encode()).hexdigest()[:8]}"
        state = platformdirs.user_state_path("firstpick") / name
    for what, folder in (("studies", studies), ("app", Path(app_dir).resolve() if app_dir else None)):
        if folder is not None and state.is_relative_to(folder):
            msg = f"state_dir {state} lies in the {what} folder, which FirstPick never writes. Choose another place."
            raise ConfigError(msg)
    if (kind := _file_system(state)) in _NETWORK_DISKS:
        msg = f"state_dir {state} is on a network disk ({kind}), where a database can break. Choose a local disk."
        raise ConfigError(msg)
    return state


_NETWORK_DISKS = ("nfs", "nfs4", "cifs", "smbfs", "smb3", "afpfs", "9p", "fuse.sshfs", "glusterfs", "lustre", "ceph")


def _file_system(path: Path) -> str:
    """Kind of file system that a path lies on, '' if unknown."""
    mounts = {Path(part.mountpoint): part.fstype for part in psutil.disk_partitions(all=True)}
    return next((mounts[parent] for parent in (path, *path.parents) if parent in mounts), "")
