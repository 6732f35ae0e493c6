"""Strategies that choose rows of a matrix, and the one function that calls them.

A strategy is a pure function ``(X, n_select, *, labelled, candidates, rng, **own) -> Selection``. It trusts its
input, which `select` has checked, scaled and put in order:

X : ndarray of shape (n_rows, dim), float32
    Finite, its rows one after the other in memory, in an order of their own content. Not to be modified.
n_select : int
    From 1 to the number of candidates.
labelled : ndarray of shape (n_labelled,), intp
    Rows that are labelled, rising. Never picked; they shape clusters, and what is like them is covered.
candidates : ndarray of shape (n_candidates,), intp
    Rows that may be picked, rising, none of them labelled. The others shape clusters, and are to be covered, all
    the same.
rng : numpy.random.Generator
    The only source of chance.
own
    Parameters of its own, each with a default; one that makes no sense is refused with a ValueError.

It returns exactly ``n_select`` unique candidates, the most useful first, each with its score: the strategy's own
criterion at the moment of the pick, finite, as its docstring says. Ties, up to rounding, go to the lowest row. The
same arguments give the same picks on any number of threads, and the picks are better than chance by the strategy's
own criterion. Where it is named in `NESTED`, a smaller batch with the same seed is the start of a larger one; where
not, it need not be.

The first line of the docstring is the strategy's label in the user interface; the rest says what is its own. To add
one, write the function in a file of its own, name it in `STRATEGIES` (and `NESTED`), and give the tests its criterion.

A strategy in `LATER` takes ``patches`` besides, which say what the labels so far leave unsure: it chooses from the
second round on.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from firstpick.selection.bal import bal
from firstpick.selection.calr import calr
from firstpick.selection.consensus import consensus
from firstpick.selection.constraints import Metadata, Rows
from firstpick.selection.entropy_coverage import entropy_coverage
from firstpick.selection.facility_location import facility_location
from firstpick.selection.geometry import content_order, in_blocks
from firstpick.selection.guards import Guards, choose
from firstpick.selection.kcenter import kcenter
from firstpick.selection.kmeans import kmeans
from firstpick.selection.maxherding import maxherding
from firstpick.selection.patches import Patches
from firstpick.selection.probcover import probcover
from firstpick.selection.repdiv import repdiv
from firstpick.selection.result import Selection
from firstpick.selection.scaling import SCALINGS
from firstpick.selection.silhouette import silhouette
from firstpick.selection.typiclust import typiclust
from firstpick.selection.uniform import uniform
from firstpick.selection.ward import ward
from firstpick.selection.yuan_hong import yuan_hong

__all__ = [
    "LARGEST_FIRST",
    "LATER",
    "NESTED",
    "SCALINGS",
    "SEEDED",
    "STRATEGIES",
    "Guards",
    "Patches",
    "Selection",
    "check_strategy",
    "describe",
    "select",
]

STRATEGIES: Mapping[str, Callable[..., Selection]] = {
    "bal": bal,
    "calr": calr,
    "consensus": consensus,
    "facility_location": facility_location,
    "kcenter": kcenter,
    "kmeans": kmeans,
    "maxherding": maxherding,
    "probcover": probcover,
    "random": uniform,
    "repdiv": repdiv,
    "silhouette": silhouette,
    "typiclust": typiclust,
    "ward": ward,
    "yuan_hong": yuan_hong,
}

LATER: Mapping[str, Callable[..., Selection]] = {"entropy_coverage": entropy_coverage}
"""Strategies that need what the first labels taught."""

NESTED = frozenset(
    {"bal", "entropy_coverage", "facility_location", "kcenter", "maxherding", "probcover", "random", "yuan_hong"}
)
"""Strategies of which a smaller batch with the same seed is the start of a larger one."""

LARGEST_FIRST = frozenset({"calr", "kmeans", "typiclust", "ward"})
"""Strategies that pick from the largest cluster first; a proposal lists their picks by share."""

SEEDED = frozenset({"calr", "consensus", "kmeans", "silhouette", "typiclust"})
"""Strategies whose batch hangs on the seed and need not begin with a smaller one: several starts are made."""

_GIVEN_BY_SELECT = ("X", "n_select", "labelled", "candidates", "rng", "patches")

Entry = TypeVar("Entry")


def describe(strategy: str) -> str:
    """Return what a strategy does in one line.

    Examples
    --------
    >>> describe("random")
    'Draw studies at random, each with the same chance.'
    """
    check_strategy(strategy)
    return (inspect.getdoc(_functions()[strategy]) or "").partition("\n")[0]


def check_strategy(strategy: str, params: Collection[str] = ()) -> None:
    """Raise ValueError, with the nearest known names, unless a strategy and its parameters exist.

    Examples
    --------
    >>> check_strategy("kmean")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: strategy 'kmean' is not known. Did you mean 'kmeans'? Choose one of ...
    """
    function = _look_up("strategy", strategy, _functions())
    allowed = [name for name in inspect.signature(function).parameters if name not in _GIVEN_BY_SELECT]
    for name in params:
        if name not in allowed:
            has = f"It has {', '.join(allowed)}" if allowed else "It has none"
            msg = f"parameter {name!r} is not known to strategy {strategy!r}. {has}."
            raise ValueError(msg)


def select(
    strategy: str,
    X: ArrayLike,
    n_select: int,
    *,
    labelled: Collection[int] = (),
    excluded: Collection[int] = (),
    seed: int = 0,
    starts: int = 6,
    scaling: str = "l2",
    n_components: int = 32,
    groups: Sequence[str] | None = None,
    strata: Sequence[str] | None = None,
    slices: Sequence[tuple[str, str, float]] | None = None,
    patches: Patches | None = None,
    guards: Guards = Guards(),  # noqa: B008 - frozen
    n_jobs: int = 0,
    **params: Any,
) -> Selection:
    """Choose the rows to label next.

    Parameters
    ----------
    strategy : str
        A key of `STRATEGIES`, or of `LATER`.
    X : array_like of shape (n_rows, dim)
        One embedding per row; finite, within the range of float32. Not modified.
    n_select : int
        How many to choose, 1 or more. Where fewer rows are left, all of them are returned.
    labelled : collection of int
        Rows that are labelled: never chosen, but taken into account.
    excluded : collection of int
        Rows that may not be chosen and are left out of the arithmetic altogether: they shape neither the
        scaling nor the clusters. A row that is labelled too counts as labelled.
    seed : int
        0 or more. The same numbers, labelled set, parameters and seed give the same rows.
    starts : int
        Batches of a strategy in `SEEDED` that are made, each from a generator of its own, the first one that of
        ``starts=1``. The one most like the pool is returned, see `firstpick.selection.starts.most_like_all`.
    scaling : str
        A key of `SCALINGS`: ``l2`` unit rows, ``standardise`` columns of mean 0 and deviation 1, ``pca`` the first
        principal components of unit rows, ``whiten`` the same with equal variances, or ``none``.
    n_components : int
        For ``pca`` and ``whiten``, see `firstpick.selection.scaling.principal`.
    groups : sequence of str, optional
        The patient of each row, for ``guards.max_per_group``; empty for a row that is a group of its own.
    strata : sequence of str, optional
        The stratum of each row (modality, site): the batch is shared out among them, as ``guards.share`` says,
        and each share is chosen among the rows of its stratum.
    slices : sequence of (str, str, float), optional
        Where rows are slices, the study of each row, its plane and its position in mm, for
        ``guards.max_per_study`` and ``guards.min_distance_mm``. Of ``groups``, studies are counted then.
    patches : Patches, optional
        Of the rows of ``X``, for a strategy in `LATER`; others do not look at them.
    guards : Guards
        What is kept to, whatever the strategy. Nothing by default.
    n_jobs : int
        Threads; 0 for one a core. The result does not depend on it.
    **params
        Parameters of the strategy.

    Returns
    -------
    Selection
        Rows of ``X``, most useful first, unique; ``min(n_select, rows left)`` of them, or fewer if outliers
        are left out or slices would lie too close. It also tells which rows repeat another.

    Raises
    ------
    ValueError
        If a name is not known, ``X`` is not a finite matrix, a row is out of range, ``n_select`` or ``starts`` is
        below 1, the strategy needs patches and there are none, or nothing is left to choose.

    Notes
    -----
    Strategies see the rows in an order of their own content, so neither file names nor the order of the
    listing can matter. Of exact duplicates, which nobody can tell apart, the first listed comes first.

    Examples
    --------
    Two directions; the one that is labelled already is not chosen again.

    >>> X = [[1, 0], [9, 1], [0, 1], [1, 8]]
    >>> select("kmeans", X, 1, labelled=[0]).indices.tolist()
    [2]
    """
    check_strategy(strategy, params)
    scale = _look_up("scaling", scaling, SCALINGS)
    values = _matrix(X)
    for what, number in (("n_select", n_select), ("starts", starts)):
        if number < 1:
            msg = f"{what} must be 1 or more; got {number}."
            raise ValueError(msg)
    is_labelled = _mask("labelled", labelled, len(values))
    is_out = _mask("excluded", excluded, len(values)) & ~is_labelled
    n_left = len(values) - int(is_labelled.sum() + is_out.sum())
    if n_left == 0:
        msg = f"nothing left to choose: all {len(values)} rows are labelled or excluded."
        raise ValueError(msg)
    if strategy in LATER and patches is None:
        msg = f"strategy {strategy!r} needs patches and what the labels so far say of them: it chooses no first batch."
        raise ValueError(msg)
    if patches is not None:
        _mask("owner of patches", patches.owner.tolist(), len(values))
    order = content_order(values)
    rows = order[~is_out[order]]
    ordered = values[rows]
    rng = np.random.default_rng(seed)
    generators = [rng, *rng.spawn(starts - 1 if strategy in SEEDED else 0)]

    @functools.lru_cache(maxsize=1)  # all starts ask for the same rows
    def scaled(some: bytes) -> NDArray[np.float32]:
        asked = np.frombuffer(some, np.intp)
        found = scale(ordered if len(asked) == len(ordered) else ordered[asked], n_components)
        return np.ascontiguousarray(found)  # some versions of BIRCH fail else

    def ask(rng: np.random.Generator, some: NDArray[np.intp]) -> Callable[[int, Rows, Rows], Selection]:
        X = scaled(some.tobytes())
        more = {"patches": patches.of(rows[some])} if patches is not None and strategy in LATER else {}
        return lambda n, labelled, candidates: _functions()[strategy](
            X, n, labelled=labelled, candidates=candidates, rng=rng, **more, **params
        )

    metadata = Metadata(
        is_labelled[rows],
        _codes("groups", groups, len(values))[rows],
        _strata(strata, len(values))[rows],
        _codes("slices", None if slices is None else [study for study, _, _ in slices], len(values))[rows],
        _codes("slices", None if slices is None else [plane for _, plane, _ in slices], len(values))[rows],
        np.array([0.0] * len(values) if slices is None else [mm for _, _, mm in slices])[rows],
    )
    with _threads(n_jobs):
        asks = [functools.partial(ask, own) for own in generators]
        chosen = choose(asks, ordered, min(n_select, n_left), metadata, guards, is_nested=strategy in NESTED)
    return Selection(
        rows[chosen.indices],
        chosen.scores,
        duplicates=tuple(sorted((int(rows[row]), int(rows[original])) for row, original in chosen.duplicates)),
    )


def _functions() -> Mapping[str, Callable[..., Selection]]:
    return {**STRATEGIES, **LATER}


@contextlib.contextmanager
def _threads(n_jobs: int) -> Iterator[None]:
    """Let joblib and the numerical libraries use so many threads; 0 for one a core."""
    from joblib import parallel_config  # noqa: PLC0415 - a server must start without it

    limits = threadpool_limits(n_jobs) if n_jobs else contextlib.nullcontext()
    with parallel_config(backend="threading", n_jobs=n_jobs or -1), limits:
        yield


def _codes(name: str, values: Sequence[str] | None, n_rows: int) -> NDArray[np.intp]:
    """Number what each row says; a row that says nothing gets a number of its own."""
    values = [""] * n_rows if values is None else values
    if len(values) != n_rows:
        msg = f"{name} must say something of each of the {n_rows} rows of X; got {len(values)}."
        raise ValueError(msg)
    number = {value: place for place, value in enumerate(sorted(set(values) - {""}))}
    codes = [number.get(value, len(number) + row) for row, value in enumerate(values)]
    return np.array(codes, np.intp)


def _strata(values: Sequence[str] | None, n_rows: int) -> NDArray[np.intp]:
    """Number the strata; rows that say nothing are one stratum."""
    return _codes("strata", [f" {value}" for value in ([""] * n_rows if values is None else values)], n_rows)


def _look_up(kind: str, name: str, table: Mapping[str, Entry]) -> Entry:
    if name in table:
        return table[name]
    near = difflib.get_close_matches(name, table, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    msg = f"{kind} {name!r} is not known.{hint} Choose one of {', '.join(table)}."
    raise ValueError(msg)


def _matrix(X: ArrayLike) -> NDArray[np.float32]:
    values = np.asarray(X)
    if values.ndim != 2 or values.shape[1] == 0:  # noqa: PLR2004 - a matrix
        msg = f"X must have one row of numbers per study; got an array of shape {values.shape}."
        raise ValueError(msg)
    for block in in_blocks(*values.shape):
        is_good = (np.abs(values[block]) <= np.finfo(np.float32).max).all(axis=1)  # False for NaN as well
        if not is_good.all():
            bad = block.start + int(is_good.argmin())
            msg = f"X must hold finite numbers within the range of float32; row {bad} does not."
            raise ValueError(msg)
    return np.asarray(values, np.float32)


def _mask(name: str, rows: Collection[int], n_rows: int) -> NDArray[np.bool_]:
    wrong = [row for row in rows if not 0 <= row < n_rows]
    if wrong:
        msg = f"{name} holds row {wrong[0]}; X has {n_rows} rows, counted from 0."
        raise ValueError(msg)
    mask = np.zeros(n_rows, dtype=np.bool_)
    mask[list(rows)] = True
    return mask
