"""The configuration: a YAML file and ``--conf`` pairs become one checked `Config`."""

from __future__ import annotations

import difflib
import functools
import hashlib
import importlib.util
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import psutil
import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from firstpick.cluster import Cluster
from firstpick.drafts import Drafts, Stop
from firstpick.encoders import POOLINGS, TOKENS, UNITS, EncoderSpec, encoder_row
from firstpick.libraries import user_folder
from firstpick.origins import host_name, network, origin
from firstpick.selection import LATER, SCALINGS, Guards, check_strategy
from firstpick.selection.guards import OUTLIERS
from firstpick.selection.shares import SHARES
from firstpick.sources.attributes import RULES, read_attribute
from firstpick.sources.connection import DicomWeb, checked_address, is_address
from firstpick.sources.fetching import Fetching
from firstpick.sources.folder import Eligibility
from firstpick.sources.series import SeriesRule
from firstpick.sources.source import make_ready
from firstpick.voxels.bounds import DEFAULT_GB
from firstpick.voxels.views import ViewSpec

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


SAME = "same"
"""The next round is chosen by the strategy that chose the first."""


class ConfigError(Exception):
    """The configuration is wrong; the text lists every problem, one a line."""


class _Settings(BaseModel):
    """Keys with their types, bounds, defaults and meanings: the only place where they are written down."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        coerce_numbers_to_str=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,  # the meanings of the keys of ViewSpec and Eligibility
    )


class Label(_Settings):
    """What annotators draw: a name, its value in the label map, its colour."""

    name: str
    value: int = Field(ge=1)  # 0 is background
    color: str = Field("#ffcc00", pattern="^#[0-9a-fA-F]{6}$")


class Groups(_Settings):
    """How many studies of one patient a batch may hold, and what tells the patient."""

    by: str = Field("patient", description=f"What tells a patient's studies: {RULES}; empty for nothing.")
    max: int = Field(
        1, description="Studies of one patient in all batches together, while others remain; 0 for any number."
    )


class Strata(_Settings):
    """Among what the batch is shared out, and how."""

    by: str = Field("", description="What the batch is shared out among, told in the same ways; empty for nothing.")
    share: str = Field("proportional", description=f"How strata share the batch: {', '.join(SHARES)}.")


class Slices(_Settings):
    """How many slices of one study a batch may hold, and how far apart."""

    max_per_study: int = Field(
        3,
        description="With unit: slice, slices of one study at most; 0 for any number. A second comes only when "
        "all studies have given one.",
    )
    min_distance_mm: float = Field(
        10.0, description="With unit: slice, least distance of two slices of one study in the same plane."
    )


class Config(_Settings):
    """All settings, checked."""

    strategy: str = Field("kmeans", description="How the batch is chosen: a name of `firstpick list strategies`.")
    next_round: str = Field(
        "same",
        description="How batches are chosen once labels came of the first: same, or the name of a strategy; "
        "entropy_coverage needs drafts.enabled.",
    )
    batch_size: int = Field(10, ge=1, description="Studies in a batch; with unit: slice, slices.")
    seed: int = Field(0, ge=0, description="Seed of the strategy: the same seed gives the same batch.")
    starts: int = Field(
        6,
        ge=1,
        description="Batches that a strategy which hangs on the seed makes from different starts; the one most like "
        "the pool is taken. 1 for no choice.",
    )
    scaling: str = Field("l2", description=f"How features are scaled before the strategy: {', '.join(SCALINGS)}.")
    n_components: int = Field(
        32,
        ge=1,
        description="Principal components kept by the scalings pca and whiten; at most a quarter of the studies.",
    )
    params: Mapping[str, Any] = Field({}, description="Parameters of the strategy, by name.")
    groups: Groups = Groups()
    strata: Strata = Strata()
    duplicates: float = Field(
        0.9995, description="Cosine from which on two studies count as one; 0 for no such search."
    )
    outliers: str = Field("keep", description=f"What is done with unusual studies: {', '.join(OUTLIERS)}.")
    unit: str = Field(
        "volume", description=f"What is picked: {', '.join(UNITS)}. Of a study, slices are picked together."
    )
    slices: Slices = Slices()
    encoder: str = Field("dinov2-s", description="What embeds the studies: a name of `firstpick list encoders`.")
    weights: str = Field(
        "", description="A file, folder or hub id with the encoder's weights; empty for its own source."
    )
    pooling: str = Field("mean", description=f"How the rows of a study's views become one: {', '.join(POOLINGS)}.")
    layer: str = Field("", description="Layer of the network whose output is taken; empty for the encoder's own.")
    tokens: str = Field(
        "", description=f"Tokens of a transformer that are taken: {', '.join(TOKENS)}; empty for the encoder's own."
    )
    views: ViewSpec = ViewSpec()
    eligible: Eligibility = Eligibility()
    series: SeriesRule = SeriesRule()
    dicomweb: DicomWeb = DicomWeb()
    labels: tuple[Label, ...] = Field(
        (Label(name="foreground", value=1),),
        description="What annotators draw: a list of name, value (1 or more) and color (#rrggbb).",
    )
    state_dir: str = Field(
        "", description="Folder for all state, on a local disk; empty for one in the user's state folder."
    )
    readers_per_study: int = Field(1, ge=1, description="Readers who label each study before it is done.")
    hold_minutes: float = Field(
        240.0,
        ge=1,
        description="Minutes for which a study stays reserved that MONAI Label's own *Next Sample* gave; it knows no "
        "heartbeat.",
    )
    label_versions: int = Field(3, ge=0, description="Earlier final labels that are kept of each study.")
    served_gb: float = Field(
        20.0, ge=0, description="Gigabytes of files that the server makes for readers, such as of DICOM series."
    )
    max_upload_gb: float = Field(2.0, gt=0, description="Gigabytes that one upload of a label may hold.")
    auto_next: bool = Field(False, description="When a batch is finished, add the next one by itself.")
    n_workers: int = Field(0, ge=0, description="Embedding processes; 0 for one a core.")
    cluster: Cluster = Cluster()
    drafts: Drafts = Drafts()
    stop: Stop = Stop()
    n_jobs: int = Field(0, ge=0, description="Threads that choose a batch; 0 for one a core.")
    time_limit_s: float = Field(
        300.0, ge=1, description="Seconds after which reading and encoding one study, or one series of it, is given up."
    )
    max_study_gb: float = Field(
        DEFAULT_GB,
        gt=0,
        description="Gigabytes that the voxels of one study may take, unpacked; a header that says more is refused.",
    )
    worker_memory_gb: float = Field(
        0.0,
        ge=0,
        description="Gigabytes of memory at which a worker process is ended and its study fails; 0 for half of the "
        "machine's.",
    )
    rescan_s: float = Field(
        10.0, ge=0.1, description="Seconds between two looks at the studies folder, or the PACS, while serving."
    )
    allowed_hosts: tuple[Annotated[str, AfterValidator(host_name)], ...] = Field(
        (), description="Names to call the server by, besides IPs and its machine's names, such as [reads.example]."
    )
    allowed_origins: tuple[Annotated[str, AfterValidator(origin)], ...] = Field(
        (), description="Origins of other pages that may use the server, such as [https://viewer.example]; else none."
    )
    public_url: Annotated[str, AfterValidator(lambda url: url and origin(url))] = Field(
        "", description="Address by which browsers reach the server through a proxy, such as https://reads.example."
    )
    trusted_proxies: tuple[Annotated[str, AfterValidator(network)], ...] = Field(
        ("127.0.0.0/8", "::1/128"), description="IPs or networks whose X-Forwarded-Host and -Proto headers count."
    )

    @field_validator("labels")
    @classmethod
    def _are_distinct(cls, labels: tuple[Label, ...]) -> tuple[Label, ...]:
        for what in ("name", "value"):
            seen = [getattr(label, what) for label in labels]
            if twice := [item for item in seen if seen.count(item) > 1]:
                msg = f"{what} {twice[0]!r} is used twice."
                raise ValueError(msg)
        return labels

    @property
    def encoder_spec(self) -> EncoderSpec:
        """What decides the numbers of an embedding."""
        return EncoderSpec(self.encoder, self.weights, self.views, self.pooling, self.layer, self.tokens, self.unit)

    @property
    def guards(self) -> Guards:
        """What is kept to, whatever the strategy."""
        limits = (self.slices.max_per_study, self.slices.min_distance_mm) if self.unit == "slice" else (0, 0.0)
        return Guards(self.duplicates, self.groups.max, self.strata.share, self.outliers, *limits)

    def limits(self, state: Path | None, *, served: Path | None = None) -> dict[str, Any]:
        """What a worker process may take, as keywords of `firstpick.workers.LocalPool`.

        Parameters
        ----------
        state : Path or None
            The state folder; what is fetched lies there while it is read. None for one of the system's own.
        served : Path, optional
            Where the files that readers open are kept of all that is fetched.
        """
        half_s = self.time_limit_s / 2  # the other half is for reading and encoding
        fetching = Fetching(self.dicomweb, str(state or ""), half_s, str(served or ""), self.served_gb * 1e9)
        return {
            "time_limit_s": self.time_limit_s,
            "memory_gb": self.worker_memory_gb,
            "prepare": (make_ready, self.max_study_gb, fetching),
        }

    def workers(self, state: Path, *, served: Path | None = None) -> dict[str, Any]:
        """Who embeds, as keywords of `firstpick.embedding.executor.open_executor`; a cluster has no folder of ours."""
        limits = self.limits(None) if self.cluster.scheduler else self.limits(state, served=served)
        return {"cluster": self.cluster, "n_workers": self.n_workers, "limits": limits, "state": state}

    def choice(self, strategy: str = "", seed: int | None = None) -> dict[str, Any]:
        """How a batch is chosen, as keywords of `firstpick.proposal.propose`; another strategy has its own defaults."""
        return {
            "strategy": strategy or self.strategy,
            "seed": self.seed if seed is None else seed,
            "starts": self.starts,
            "scaling": self.scaling,
            "n_components": self.n_components,
            "guards": self.guards,
            "n_jobs": self.n_jobs,
            **(self.params if strategy in ("", self.strategy) else {}),
        }


_SCHEMA = Config.model_json_schema()


def _inner(schema: Mapping[str, Any], part: str | int) -> Mapping[str, Any]:
    """The schema of a key, or of a list's items; empty where nothing is said of it."""
    found: Mapping[str, Any] = schema.get("properties", {}).get(part, {})
    if isinstance(part, int):
        found = schema.get("items", {})
    return _SCHEMA["$defs"][found["$ref"].rpartition("/")[2]] if "$ref" in found else found


def _schema_of(path: Iterable[str | int]) -> Mapping[str, Any]:
    schema: Mapping[str, Any] = _SCHEMA
    return functools.reduce(_inner, path, schema)


def _described(schema: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name in schema["properties"]:
        inner = _inner(schema, name)
        if "properties" in inner:
            yield from _described(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", " ".join(inner["description"].split())


KEYS: Mapping[str, str] = MappingProxyType(dict(_described(_SCHEMA)))
"""What each key means; the table of sample_configs/README.md is made from it."""


def load_config(path: str | Path | None = None, overrides: Mapping[str, Any] = MappingProxyType({})) -> Config:
    """Read a YAML file, apply overrides and check everything.

    Parameters
    ----------
    path : str or Path, optional
        None for the defaults.
    overrides : mapping
        Dotted keys such as ``views.size``. A string is taken as it is for a text or a number; for a list, a mapping
        or a parameter of the strategy it is read as YAML.

    Raises
    ------
    ConfigError
        With every problem, one a line: file, key, what was got, what is allowed.
    """
    where = str(path) if path else "configuration"
    tree = _read_yaml(path) if path else {}
    for key, value in overrides.items():
        *outer, name = key.split(".")
        place = functools.reduce(_mapping_at, outer, tree)
        place[name] = _from_text(value, _schema_of(key.split("."))) if isinstance(value, str) else value
    try:
        config = Config.model_validate(_fitted(tree, _SCHEMA))
        problems = _problems(config)
    except ValidationError as error:
        names = [str(name) for name in tree]
        problems = [_sentence(item) for item in sorted(error.errors(), key=lambda e: names.index(str(e["loc"][0])))]
    if problems:
        raise ConfigError("\n".join(f"{where}: {problem}" for problem in problems))
    return config


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


def _mapping_at(tree: dict[str, Any], name: str) -> dict[str, Any]:
    """Return what lies under a name, which becomes a mapping if it is none."""
    if not isinstance(tree.get(name), dict):
        tree[name] = {}
    inner: dict[str, Any] = tree[name]
    return inner


def _from_text(text: str, schema: Mapping[str, Any]) -> Any:
    """Read a string of the command line: in a list and a mapping all is text, as it was typed."""
    kind = schema.get("type")
    if kind not in ("array", "object", None):
        return text
    loader = yaml.BaseLoader if kind == "array" or "properties" in schema else yaml.SafeLoader
    try:
        value = yaml.load(text, Loader=loader)  # noqa: S506 - neither builds objects
    except yaml.YAMLError:
        value = text
    if kind == "array" and not isinstance(value, list | dict):
        return [text] if text.strip() else []
    return "" if value is None else value


def _fitted(value: Any, schema: Mapping[str, Any]) -> Any:
    """Make of what YAML read what pydantic is to see: a lone value is a list of one, and true is no number."""
    if isinstance(value, dict) and schema.get("type") != "array":
        return {key: _fitted(item, _inner(schema, key)) for key, item in value.items()}
    if schema.get("type") == "array":
        return [_fitted(item, _inner(schema, 0)) for item in (value if isinstance(value, list) else [value])]
    return str(value) if isinstance(value, bool) and schema.get("type") in ("integer", "number") else value


_PROBLEMS = {  # by the type of pydantic's error, or its first word
    "missing": "{key} is missing.",
    "value_error": "{key}: {error}",
    "greater_than": "{key} must be more than {gt}; got {input}.",
    "greater_than_equal": "{key} must be at least {ge}; got {input}.",
    "too_long": "{key} must be a list of {max_length} values; got {input!r}.",
    "string_pattern_mismatch": "{key} must look like #ffcc00; got {input!r}.",  # a colour
    "string": "{key} must be text; got {input!r}.",
    "int": "{key} must be a whole number; got {input!r}.",
    "float": "{key} must be a number; got {input!r}.",
    "finite": "{key} must be a number; got {input!r}.",
    "bool": "{key} must be true or false; got {input!r}.",
    "dict": "{key} must hold keys and values; got {input!r}.",
    "model": "{key} must hold keys and values; got {input!r}.",
    "dataclass": "{key} must hold keys and values; got {input!r}.",
}


def _sentence(error: ErrorDetails) -> str:
    """Say in our words what pydantic found."""
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"]).removeprefix(".")
    kind = error["type"]
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        return _unknown(key, error["loc"])
    text = _PROBLEMS.get(kind) or _PROBLEMS.get(kind.partition("_")[0], "{key}: {msg}; got {input!r}.")
    return text.format(key=key, **{**error, **error.get("ctx", {})})


def _unknown(key: str, location: Sequence[str | int]) -> str:
    *outer, name = location
    known = sorted(_schema_of(outer)["properties"])
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f" Did you mean '{key.removesuffix(str(name))}{near[0]}'?" if near else ""
    return f"key '{key}' is not known.{hint} Known here: {', '.join(known)}."


def _problems(config: Config) -> list[str]:
    """What is wrong with values of the right type."""
    problems = []
    checks: list[Callable[[], object]] = [
        lambda: check_strategy(config.strategy, config.params),
        lambda: _check_rounds(config),
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
    if config.cluster.scheduler and importlib.util.find_spec("distributed") is None:
        problems.append("cluster needs distributed, which is not installed. Type: pip install 'firstpick[cluster]'")
    if not problems and "hub" not in encoder_row(config.encoder).takes and not _is_readable(config.weights):
        problems.append(f"weights '{config.weights}' cannot be read.")
    return problems


def _check_rounds(config: Config) -> None:
    """Raise ValueError where the strategy of a round cannot choose in it."""
    if config.strategy in LATER:
        msg = (
            f"strategy '{config.strategy}' needs labels: it cannot choose a first batch. Take another one, and set "
            f"next_round: {config.strategy}."
        )
        raise ValueError(msg)
    if config.next_round == SAME:
        return
    try:
        check_strategy(config.next_round)
    except ValueError as error:
        msg = f"next_round: {error} Or 'same'."
        raise ValueError(msg) from error
    if config.next_round in LATER and (not config.drafts.enabled or config.drafts.model):
        what_to_do = "leave drafts.model empty" if config.drafts.model else "set drafts.enabled: true"
        msg = f"next_round '{config.next_round}' needs what the labels teach: {what_to_do}."
        raise ValueError(msg)


def _is_readable(path: str) -> bool:
    return not path or os.access(path, os.R_OK)


def state_folder(config: Config, studies_dir: str | Path, *, app_dir: str | Path | None = None) -> Path:
    """Where the state of one studies folder, or of one PACS, lies.

    Raises
    ------
    ConfigError
        If that is inside the studies or the app folder, or on a network disk,
        where SQLite's locks cannot be trusted; or the address of a PACS is none.
    """
    try:
        address = checked_address(str(studies_dir)) if is_address(studies_dir) else ""
    except ValueError as error:
        raise ConfigError(str(error)) from error
    studies = None if address else Path(studies_dir).resolve()
    if config.state_dir:
        state = Path(config.state_dir).expanduser().resolve()
    else:
        name = (urlsplit(address).hostname or "") if studies is None else studies.name
        state = user_folder() / f"{name}-{hashlib.sha256((address or str(studies)).encode()).hexdigest()[:8]}"
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
