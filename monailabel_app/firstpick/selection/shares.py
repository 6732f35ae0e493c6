"""How a batch is shared out among strata."""

from __future__ import annotations

from collections.abc import Sequence

SHARES = ("proportional", "equal")


def share_out(n_select: int, sizes: Sequence[int], how: str) -> list[int]:
    """Share a number out among strata, in whole numbers (largest remainder).

    Parameters
    ----------
    n_select : int
        At most the sum of ``sizes``.
    sizes : sequence of int
        How many rows each stratum has to give: none gives more.
    how : {'proportional', 'equal'}
        In proportion to the sizes, or the same for each.

    Notes
    -----
    Every stratum gets the whole part of its share, and the largest fractions one more (Hare's quota, or Hamilton's
    method); of equal fractions, the larger stratum gets more, then the first. A stratum whose share is more than it
    has gives all, and the rest is shared out among the others. A larger ``n_select`` may give a stratum less (the
    Alabama paradox), so batches that are shared out are not nested.

    Examples
    --------
    >>> share_out(10, [60, 25, 15], "proportional"), share_out(10, [60, 25, 2], "equal")
    ([6, 3, 1], [4, 4, 2])
    """
    counts = [0] * len(sizes)
    free = [stratum for stratum, size in enumerate(sizes) if size]
    while free:
        n_left = n_select - sum(counts)
        weights = {stratum: sizes[stratum] if how == "proportional" else 1 for stratum in free}
        shares = {stratum: n_left * weight / sum(weights.values()) for stratum, weight in weights.items()}
        full = [stratum for stratum in free if shares[stratum] >= sizes[stratum]]
        for stratum in full:
            counts[stratum] = sizes[stratum]
        if not full:
            by_fraction = sorted(free, key=lambda i: (int(shares[i]) - shares[i], -sizes[i], i))
            n_more = n_left - sum(map(int, shares.values()))
            for place, stratum in enumerate(by_fraction):
                counts[stratum] = int(shares[stratum]) + (place < n_more)
            break
        free = [stratum for stratum in free if stratum not in full]
    return counts


def interleave(counts: Sequence[int]) -> list[int]:
    """Name the stratum of each place of a batch so that every prefix is shared out about as the whole.

    The ``i``-th of ``n`` of a stratum stands at ``(i + 1/2) / n`` of the batch, the stratum with more places first.

    Examples
    --------
    >>> interleave([4, 2])
    [0, 1, 0, 0, 1, 0]
    """
    places = [((i + 0.5) / count, -count, stratum) for stratum, count in enumerate(counts) for i in range(count)]
    return [stratum for _, _, stratum in sorted(places)]
