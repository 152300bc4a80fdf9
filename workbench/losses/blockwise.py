r"""One kernel behind the softmax and sigmoid losses: no n x m matrix of logits is ever held.

For rows $x_i$ and $y_j$ of the two sides, scaled to unit length, with logits $l_{ij} = s\,x_i^\top y_j + b$, every loss needs

* the logits $p$ of the positive pairs,
* for each row $R_i = \log\sum_j e^{l_{ij}}$ (softmax) or $\sum_j \log(1 + e^{l_{ij}})$ (sigmoid), pairs left out,
* the same down the columns, $C_j$, where both directions count,

and its derivative is one weight for each logit: $g_i\,e^{l_{ij} - R_i} + h_j\,e^{l_{ij} - C_j}$ or $g_i\,\sigma(l_{ij})$, where g and
h are the derivatives by R and C. So the forward pass streams blocks of logits and keeps sums; the backward pass makes each
block again and multiplies its weights with both sides: memory O((n + m) d + block), four matrix products.

What makes it quick, all of it exact:

* Logits of unit rows are at most $s$, so one exponential, without a search for the largest, serves rows and columns. Where
  the range of the dtype might be left, a check of the sums says so, and running maxima take over.
* Sums and weights are in powers of two: `exp2` is four times as fast as `exp` on a CPU, and the factor goes into the rows.
* Where both sides are one tensor only half of the blocks are made.
* A loss in which each row stands alone gets its gradient while the strip of its blocks is at hand: three products, not four.
* Blocks are kept for the backward pass while all of them together are small.
* The diagonals of positive pairs are holes in the blocks: their logits are read there, their derivatives are written there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from workbench.checks import describe
from workbench.losses._blocks import HALF, Hole, Rows, Weights, like
from workbench.losses._kernel import Finish, Plan, run
from workbench.losses._ring import Alone, Ring

# All blocks are kept for the backward pass while they are at most this many logits (64 MiB in float32), if rows are so wide
# that a product costs more than the memory it takes to avoid it, or so few that they stay in the cache.
KEEP, KEEP_WIDTH, KEEP_ALWAYS = 2**24, 256, 2**18
STRIP = 2**25  # logits; the largest strip of blocks that is held at once to save its recomputation
GATHER = 2**22  # numbers; up to this many (16 MiB) each process gets the rows of all, above they are passed round
BLOCK = {"cpu": (512, 512), "cuda": (8192, 8192)}  # rows and columns of a block


@dataclass(frozen=True)
class Sums:
    """What the losses are made of; gradients flow through all of it."""

    pairs: Tensor  # logits of the positive pairs
    rows: Tensor  # (n,) log-sum-exp, or sum of log(1 + exp), of the other logits of each row
    columns: Tensor | None  # (m,) the same of each column, where asked for


def own_pairs(n: int) -> tuple[Hole, ...]:
    """Row i of one side belongs to row i of the other."""
    return (Hole(0, 0, n, pair=True),)


def no_self(n: int) -> tuple[Hole, ...]:
    """The two sides are one set; no row is compared with itself."""
    return (Hole(0, 0, n, pair=False),)


def stacked_views(n: int) -> tuple[Hole, ...]:
    """The two sides are one set of two stacked views; rows i and n + i are a pair, no row is compared with itself."""
    return (Hole(0, 0, 2 * n, pair=False), Hole(n, 0, n, pair=True), Hole(-n, n, 2 * n, pair=True))


def sums(
    x: Rows,
    y: Rows | None,
    *,
    scale: float | Tensor,
    bias: float | Tensor | None = None,
    holes: tuple[Hole, ...] = (),
    columns: bool = False,
    weights: Weights | None = None,
    block_size: int | None = None,
    ring: Alone | Ring | None = None,
) -> Sums:
    """Pairs, row sums and column sums of the logits scale * x y' + bias.

    Args:
        x: (n, d) rows.
        y: (m, d) rows; None where they are those of `x`, then half of the matrix is made.
        scale: a positive number or 0-dim tensor.
        bias: a number or 0-dim tensor for sums of log(1 + exp); None for log-sum-exp, without bias.
        holes: the positive pairs, and what does not count at all.
        columns: whether the sums of the columns are wanted.
        weights: of the logits in the sums; only where the two sides differ and no sums of columns are wanted.
        block_size: rows and columns of a block; None takes what is quick, and keeps the blocks where they are few.
        ring: the processes that hold the rows; each gets the sums of its own rows and columns.
    """
    ring = ring or Alone()
    if isinstance(ring, Ring) and _few(x, y, ring):
        far, around = _gather(x if y is None else y, holes, ring)
        found = sums(x, far, scale=scale, bias=bias, holes=around, weights=weights, block_size=block_size)
        if columns and y is not None:
            far, around = _gather(x, tuple(hole.mirrored() for hole in holes), ring)
            back = sums(y, far, scale=scale, bias=bias, holes=around, block_size=block_size)
            found = replace(found, columns=back.rows)
        return found
    return Sums(*run(x, y, scale, bias, _plan(x, y, holes, columns, block_size, ring, weights)))


def total(
    x: Rows,
    y: Rows,
    *,
    finish: Finish,
    weight: float,
    scale: float | Tensor,
    bias: float | Tensor | None = None,
    holes: tuple[Hole, ...],
    weights: Weights | None = None,
    block_size: int | None = None,
    ring: Alone | Ring | None = None,
) -> Tensor:
    """Sum of a loss over the rows of this process, times a weight, where the loss of a row needs the sum of no other row.

    `finish` is that loss, of the logits of the pairs and the sums of the rows, and its two derivatives: so the gradient is
    made on the way, from blocks that are at hand.
    """
    ring = ring or Alone()
    if isinstance(ring, Ring) and _few(x, y, ring):
        y, holes = _gather(y, holes, ring)
        ring = Alone()
    plan = _plan(x, y, holes, False, block_size, ring, weights)
    wanted = torch.is_grad_enabled() and any(isinstance(t, Tensor) and t.requires_grad for t in (x.x, y.x, scale, bias))
    if wanted and ring.world == 1 and (block := _strip(plan, len(x), len(y))) is not None:
        return run(x, y, scale, bias, plan._replace(block=block, finish=finish, weight=weight))
    found = Sums(*run(x, y, scale, bias, plan))
    return finish[0](found.pairs, found.rows).sum() * weight


def pair_logits(x: Rows, y: Rows, scale: float | Tensor) -> Tensor:
    """Logits (n,) of row i of x with row i of y, where no matrix is wanted."""
    pairs = (x.differentiable() * y.differentiable()).sum(1)
    return pairs * like(scale, pairs)


def _plan(
    x: Rows,
    y: Rows | None,
    holes: tuple[Hole, ...],
    columns: bool,
    block_size: int | None,
    ring: Alone | Ring,
    weights: Weights | None,
) -> Plan:
    if block_size is None:
        block = BLOCK.get(x.x.device.type, (1024, 1024))
    elif isinstance(block_size, bool) or not isinstance(block_size, int):
        raise TypeError(f"block_size must be an integer or None, got {describe(block_size)}")
    elif block_size < 1:
        raise ValueError(f"block_size must be at least 1, got {block_size}")
    else:
        block = (block_size, block_size)
    logits = len(x) ** 2 / 2 if y is None else len(x) * len(y)
    few = logits <= (KEEP if x.x.shape[1] >= KEEP_WIDTH else KEEP_ALWAYS)
    fused = weights is None and _triton_works(x.x)
    keep = few and block_size is None and ring.world == 1 and torch.is_grad_enabled() and not fused
    return Plan(x.factor, None if y is None else y.factor, holes, columns, block, keep, fused, ring, weights=weights)


def _strip(plan: Plan, n: int, m: int) -> tuple[int, int] | None:
    """A block of which a whole strip can be held; None where it would have too few rows to be worth it, or never exists."""
    if plan.fused:
        return None
    rows = min(n, plan.block[0], STRIP // m)
    return (rows, plan.block[1]) if rows >= min(n, plan.block[0], 128) else None


def _triton_works(x: Tensor) -> bool:
    """Half precision on a CUDA device, with rows that tensor cores can read."""
    if x.device.type != "cuda" or x.dtype not in HALF or x.shape[1] % 16:
        return False
    try:
        from workbench.losses import triton_kernels
    except ImportError:
        return False
    return triton_kernels.works()


def _few(x: Rows, y: Rows | None, ring: Ring) -> bool:
    return ring.count(len(x) + (0 if y is None else len(y))) * x.x.shape[1] <= GATHER


def _gather(x: Rows, holes: tuple[Hole, ...], ring: Ring) -> tuple[Rows, tuple[Hole, ...]]:
    """The rows of all processes, and where the holes of the own ones are among them."""
    everyone, start = ring.gather(x.x.to(x.dtype))
    factor = None if x.factor is None else ring.gather(x.factor)[0]
    # Rows of one process against rows of all are not symmetric: only one of the two places of a pair may get its derivative.
    return Rows(everyone, factor), tuple(
        replace(hole, offset=hole.offset + start, pair=hole.pair and hole.offset >= 0) for hole in holes
    )
