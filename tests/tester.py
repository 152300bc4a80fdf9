"""One tester for every public loss and metric: register a function in one line, get the whole list of checks.

    from tester import Case, Tester, labelled, pair, single

    CASES = [
        Case(metrics.uniformity, slow_uniformity, single("x"), options=({}, {"t": 1.0}), min_rows=2),
        Case(metrics.tolerance, slow_tolerance, labelled("features", "labels"), min_rows=2, differentiable=False),
    ]

    class TestEveryMetric(Tester):
        cases = CASES

`slow_*` is a plain loop written from the paper, called with the same (float64) arguments and options as the function
itself. A result may be a scalar tensor, a float, or a dataclass with such a `.value`.

What the arguments are is a mapping from argument name to role: "rows" (n, d), "partner" (n, d, paired with rows),
"other" (n + 3, d, not paired), "labels" (n,), "other_labels" (n + 3,). `single`, `pair` and `labelled` write the usual ones.

A function with a `block_size` is also tried with blocks, and one with a `group` in two and three processes (`ranks.py`): rows,
partners and labels are split between them, the other arguments are common to all.

Switch off only what does not hold, and say why beside it: `invariances` (permutation of the rows, one rotation of all rows,
positive scale of each row, swap of the first two arguments), `unit_rows=False` where a row of zeros is allowed,
`differentiable=False` where no gradient is promised.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import ranks
import torch
from splits import SPLIT, in_one_process, part_of, value_and_gradients
from torch import Tensor

EMBEDDINGS = ("rows", "partner", "other")
POSITIVE = ("temperature", "logit_scale", "t", "alpha", "sigma")  # parameters that must be positive wherever they occur
SHAPES = ((2, 3), (3, 1), (3, 4), (5, 2), (8, 16))


def single(x: str) -> dict[str, str]:
    """One set of embeddings."""
    return {x: "rows"}


def pair(x: str, y: str) -> dict[str, str]:
    """Two sets, row i of one belongs to row i of the other."""
    return {x: "rows", y: "partner"}


def labelled(x: str, labels: str = "labels") -> dict[str, str]:
    """One set of embeddings with a class for each row."""
    return {x: "rows", labels: "labels"}


@dataclass(frozen=True)
class Case:
    """A function, its slow reference, and what is promised about it."""

    function: Callable[..., Any]
    reference: Callable[..., Any]
    arguments: Mapping[str, str]
    options: tuple[Mapping[str, Any], ...] = ({},)  # keyword arguments to try; the first is used by most checks
    min_rows: int = 1  # fewest rows that make sense; one fewer must be refused
    shapes: tuple[tuple[int, int], ...] = SHAPES
    differentiable: bool = True
    learnable: tuple[str, ...] = ()  # options that may be tensors with a gradient
    unit_rows: bool = True  # a row of zeros has no meaning and must be refused
    invariances: frozenset[str] = frozenset({"permutation", "rotation", "scale"})
    bad_options: tuple[tuple[Mapping[str, Any], type[Exception]], ...] = ()  # the first key must be named by the error
    rtol: float = 1e-9  # against the reference, in float64
    name: str = ""

    def __str__(self) -> str:
        return self.name or self.function.__name__

    def has(self, option: str | None) -> bool:
        return option is None or option in inspect.signature(self.function).parameters

    def __call__(self, inputs: Mapping[str, Any], options: Mapping[str, Any] | None = None) -> Tensor:
        return value_of(self.function(**inputs, **(self.options[0] if options is None else options)))


@dataclass(frozen=True)
class Bad:
    """One way to call a function wrongly, and the error it deserves."""

    label: str
    error: type[Exception]
    names: tuple[str, ...]  # the message must hold one of these argument names
    spoil: Callable[[dict[str, Any]], None] = field(repr=False)

    def __str__(self) -> str:
        return self.label


def value_of(result: Any) -> Tensor:
    """The number in a result: a scalar tensor, a float, or a dataclass with `.value`."""
    result = getattr(result, "value", result)
    value = result if isinstance(result, Tensor) else torch.tensor(float(result), dtype=torch.float64)
    assert value.ndim == 0, f"expected one number, got shape {tuple(value.shape)}"
    return value


def make_inputs(case: Case, n: int, d: int, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> dict[str, Any]:
    """Random arguments for `case`: partners are correlated with their rows, so positives look like positives."""
    generator = torch.Generator().manual_seed(1_000 * seed + 10 * n + d)
    rows = torch.randn(n, d, generator=generator, dtype=torch.float64)
    classes = max(1, min(3, n // 2))

    def labels(count: int) -> Tensor:
        ordered = torch.arange(count) * classes // count
        if count >= 5:
            ordered[0] = classes  # a class with a single row
        return ordered[torch.randperm(count, generator=generator)]

    make: dict[str, Callable[[], Tensor]] = {
        "rows": lambda: rows.to(dtype, copy=True),
        "partner": lambda: (rows + 0.7 * torch.randn(n, d, generator=generator, dtype=torch.float64)).to(dtype),
        "other": lambda: torch.randn(n + 3, d, generator=generator, dtype=torch.float64).to(dtype),
        "labels": lambda: labels(n),
        "other_labels": lambda: labels(n + 3),
    }
    return {name: make[role]() for name, role in case.arguments.items()}


def bad_calls(case: Case) -> Iterator[Bad]:
    """The bad-input table."""
    paired = tuple(name for name, role in case.arguments.items() if role in ("rows", "partner", "labels"))

    def edit(name: str, change: Callable[[Any], Any]) -> Callable[[dict[str, Any]], None]:
        return lambda inputs: inputs.update({name: change(inputs[name])})

    def put(entry: float) -> Callable[[Tensor], Tensor]:
        def change(x: Tensor) -> Tensor:
            x[1, 0] = entry
            return x

        return change

    for name, role in case.arguments.items():
        if role in EMBEDDINGS:
            together = paired if role in ("rows", "partner") else (name,)
            yield Bad(f"{name}=nan", ValueError, (name,), edit(name, put(float("nan"))))
            yield Bad(f"{name}=inf", ValueError, (name,), edit(name, put(float("inf"))))
            yield Bad(f"{name}=-inf", ValueError, (name,), edit(name, put(float("-inf"))))
            if case.unit_rows:
                yield Bad(f"{name}=zero_row", ValueError, (name,), edit(name, lambda x: x.index_fill(0, torch.tensor([1]), 0.0)))
            yield Bad(f"{name}=no_rows", ValueError, together, edit(name, lambda x: x[:0]))
            yield Bad(f"{name}=no_columns", ValueError, together, edit(name, lambda x: x[:, :0]))
            yield Bad(f"{name}=1d", ValueError, (name,), edit(name, lambda x: x[0]))
            yield Bad(f"{name}=3d", ValueError, (name,), edit(name, lambda x: x[None]))
            yield Bad(f"{name}=integers", TypeError, (name,), edit(name, lambda x: (10 * x).long()))
            yield Bad(f"{name}=numpy", TypeError, (name,), edit(name, lambda x: x.numpy()))
            yield Bad(f"{name}=list", TypeError, (name,), edit(name, lambda x: x.tolist()))
            if role != "rows":
                yield Bad(f"{name}=too_wide", ValueError, (name,), edit(name, lambda x: torch.cat([x, x], dim=1)))
                yield Bad(f"{name}=float32", TypeError, (name,), edit(name, lambda x: x.float()))
            if role == "partner":
                yield Bad(f"{name}=too_short", ValueError, (name,), edit(name, lambda x: x[:-1]))
        else:
            yield Bad(f"{name}=floats", TypeError, (name,), edit(name, lambda x: x.double()))
            yield Bad(f"{name}=booleans", TypeError, (name,), edit(name, lambda x: x > 0))
            yield Bad(f"{name}=list", TypeError, (name,), edit(name, lambda x: x.tolist()))
            yield Bad(f"{name}=too_short", ValueError, (name,), edit(name, lambda x: x[:-1]))
            yield Bad(f"{name}=2d", ValueError, (name,), edit(name, lambda x: x[None]))

    if case.min_rows > 1:

        def shorten(inputs: dict[str, Any]) -> None:
            inputs.update({name: inputs[name][: case.min_rows - 1] for name in paired})

        yield Bad(f"{case.min_rows - 1}_rows", ValueError, paired, shorten)

    for name in inspect.signature(case.function).parameters:
        if name in POSITIVE:
            for value in (0, -1, float("nan"), float("inf"), torch.tensor(-1.0), torch.ones(2)):
                yield Bad(f"{name}={value}", ValueError, (name,), lambda inputs, n=name, v=value: inputs.update({n: v}))
            for wrong in ("0.1", True):
                yield Bad(f"{name}={wrong!r}", TypeError, (name,), lambda inputs, n=name, v=wrong: inputs.update({n: v}))
        if name == "reduction":
            yield Bad("reduction=average", ValueError, (name,), lambda inputs: inputs.update(reduction="average"))
    for options, error in case.bad_options:
        yield Bad(f"{dict(options)}", error, (next(iter(options)),), lambda inputs, o=options: inputs.update(o))


def same(actual: Tensor, expected: Any, *, rtol: float = 1e-9, atol: float | None = None, claim: str = "") -> None:
    """Assert that two numbers agree; `claim` says what failed."""
    expected = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(
        actual.detach().double(), expected.detach(), rtol=rtol, atol=rtol if atol is None else atol, msg=lambda m: f"{claim}\n{m}"
    )


class Tester:
    """Subclass as `class TestEvery...(Tester): cases = CASES`; pytest finds the rest."""

    cases: list[Case] = []
    __test__ = False

    def __init_subclass__(cls) -> None:
        cls.__test__ = True
        for option, test in (("block_size", "test_blocks"), ("group", "test_processes")):
            if not any(case.has(option) for case in cls.cases):
                setattr(cls, test, None)  # nothing to test

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        cases = self.cases
        if hasattr(metafunc.function, "needs_gradient"):
            cases = [case for case in cases if case.differentiable]
        cases = [case for case in cases if case.has(getattr(metafunc.function, "needs_option", None))]
        if "invariance" in metafunc.fixturenames:
            both = [(case, name) for case in cases for name in sorted(case.invariances)]
            metafunc.parametrize(("case", "invariance"), both, ids=[f"{case}-{name}" for case, name in both])
        elif "bad" in metafunc.fixturenames:
            table = [(case, bad) for case in cases for bad in bad_calls(case)]
            metafunc.parametrize(("case", "bad"), table, ids=[f"{case}-{bad}" for case, bad in table])
        elif "case" in metafunc.fixturenames:
            metafunc.parametrize("case", cases, ids=str)

    def test_equals_slow_reference(self, case: Case) -> None:
        """The value is that of a loop written from the paper, for every shape and every set of options."""
        seen = set()
        for n, d in case.shapes:
            for options in case.options:
                for seed in range(2):
                    inputs = make_inputs(case, n, d, seed=seed)
                    expected = case.reference(**inputs, **options)
                    actual = case(inputs, options)
                    assert torch.isfinite(actual), f"{case} is {actual} at n={n}, d={d}, {dict(options)}"
                    same(actual, expected, rtol=case.rtol, claim=f"{case} at n={n}, d={d}, {dict(options)}")
                    seen.add(round(float(actual), 6))
        assert len(seen) > 2, "vacuous: the function returns the same number for every input"

    def test_gradient(self, case: Case) -> None:
        """The derivative is that of the value (finite differences in float64), tensor options included."""
        for n, d in case.shapes[:4]:
            for options in case.options:
                inputs = make_inputs(case, n, d, seed=1)
                leaves = {k: v.requires_grad_() for k, v in inputs.items() if v.is_floating_point()}
                numbers = {k: options[k] for k in case.learnable if isinstance(options.get(k), (int, float))}
                leaves |= {k: torch.tensor(float(v), dtype=torch.float64, requires_grad=True) for k, v in numbers.items()}

                def call(*values: Tensor, keys=tuple(leaves), fixed=inputs, options=options) -> Tensor:
                    return case({}, {**fixed, **options, **dict(zip(keys, values, strict=True))})

                # A small temperature makes the third derivative large: the step of the finite difference follows it,
                # and the rounding error of the logits divided by the step is what may remain.
                temperature = float(options.get("temperature", 1.0))
                step = 1e-6 * min(1.0, 10 * temperature)
                atol = 1e-7 + 1e-14 * max(1.0, 1 / temperature, float(case(inputs, options).detach().abs())) / step
                assert torch.autograd.gradcheck(call, tuple(leaves.values()), eps=step, atol=atol, rtol=1e-4)

    test_gradient.needs_gradient = True  # type: ignore[attr-defined]

    def test_gradient_is_not_zero(self, case: Case) -> None:
        """Every floating point argument, and every tensor option, receives a gradient from an ordinary batch."""
        inputs = make_inputs(case, 8, 16, seed=2)
        options = {k: torch.tensor(float(v)).requires_grad_() if k in case.learnable else v for k, v in case.options[0].items()}
        assert set(case.learnable) <= set(options), "give each learnable option a value in options[0]"
        leaves = {k: v.requires_grad_() for k, v in inputs.items() if v.is_floating_point()}
        leaves |= {k: v for k, v in options.items() if k in case.learnable}
        case(inputs, options).backward()
        for name, leaf in leaves.items():
            assert leaf.grad is not None and leaf.grad.abs().max() > 0, f"{name} gets no gradient"

    test_gradient_is_not_zero.needs_gradient = True  # type: ignore[attr-defined]

    def test_degenerate_rows_have_finite_gradient(self, case: Case) -> None:
        """Rows that are all equal, come twice, or are opposite give a finite value and finite gradients."""

        def equal(x: Tensor) -> Tensor:
            return x[:1].repeat(len(x), 1)

        def twice(x: Tensor) -> Tensor:
            return x[torch.arange(len(x)) // 2]

        def opposite(x: Tensor) -> Tensor:
            return x[:1] * (1.0 - 2.0 * (torch.arange(len(x)) % 2)).to(x)[:, None]

        for change in (equal, twice, opposite):
            for options in case.options:
                for dtype in (torch.float32, torch.float64):
                    inputs = make_inputs(case, 6, 4, dtype=dtype)
                    rows = next(inputs[name] for name, role in case.arguments.items() if role == "rows")
                    for name, role in case.arguments.items():  # partners equal their rows: distance zero
                        if role in EMBEDDINGS:
                            inputs[name] = (
                                change(inputs[name] if role == "other" else rows).clone().requires_grad_(case.differentiable)
                            )
                    value = case(inputs, options)
                    assert torch.isfinite(value), f"{case} is {value} for {change.__name__} rows, {dict(options)}"
                    if case.differentiable:
                        value.backward()
                        for name, x in inputs.items():
                            if isinstance(x.grad, Tensor):
                                assert torch.isfinite(x.grad).all(), (
                                    f"gradient of {name}, {change.__name__} rows, {dict(options)}"
                                )

    def test_invariance(self, case: Case, invariance: str) -> None:
        """The value does not depend on the order of the pairs, the choice of axes or the length of the rows, as declared."""
        change = {"permutation": permute, "rotation": rotate, "scale": rescale, "swap": swap}[invariance]
        for options in case.options:
            inputs = make_inputs(case, 7, 5)
            changed = change(case, inputs)
            assert any(not torch.equal(inputs[k], changed[k]) for k in inputs), "vacuous: nothing changed"
            same(case(changed, options), case(inputs, options), rtol=1e-8, claim=f"{case}, {invariance}, {dict(options)}")

    def test_half_precision(self, case: Case) -> None:
        """float16 and bfloat16 inputs are computed in float32: within 0.1 % of the exact value for the same rounded inputs."""
        for dtype in (torch.float16, torch.bfloat16):
            for options in case.options:
                inputs = make_inputs(case, 64, 32, dtype=dtype)
                wide = {k: v.double() if v.is_floating_point() else v for k, v in inputs.items()}
                single = {k: v.float() if v.is_floating_point() else v for k, v in inputs.items()}
                half = case(inputs, options)
                assert half.dtype in (torch.float32, torch.float64), f"{case} answers {dtype} with {half.dtype}"
                same(half, case(single, options), rtol=1e-3, atol=1e-6, claim=f"{case}, {dtype} against float32, {dict(options)}")
                same(half, case(wide, options), rtol=1e-3, atol=1e-5, claim=f"{case}, {dtype} against float64, {dict(options)}")

    def test_same_seed_same_bits(self, case: Case) -> None:
        """The same inputs give the same bits, and no input is written to."""
        for dtype in (torch.float32, torch.float64):
            inputs, again = make_inputs(case, 33, 8, dtype=dtype), make_inputs(case, 33, 8, dtype=dtype)
            first, second = case(inputs), case(again)
            assert torch.equal(first, second)
            assert first.dtype in (dtype, torch.float64)
            assert all(torch.equal(inputs[k], again[k]) for k in inputs)
            assert torch.equal(case(inputs), first)

    def test_blocks(self, case: Case) -> None:
        """Value and every gradient are the same with blocks, also where they do not divide the rows."""
        for n, d in [*case.shapes, (13, 3)]:
            for options in case.options:
                inputs = make_inputs(case, n, d, seed=3)
                value, gradients = value_and_gradients(case, inputs, options)
                same(value, case.reference(**inputs, **options), rtol=case.rtol, claim=f"{case} at n={n}, d={d}, {dict(options)}")
                assert n == 1 or d == 1 or any(g.abs().max() > 0 for g in gradients.values()), "vacuous: no gradient"
                for block_size in {1, 2, 5, n, n + 1}:
                    blocks, others = value_and_gradients(case, inputs, {**options, "block_size": block_size})
                    claim = f"{case} at n={n}, d={d}, {dict(options)}, block_size={block_size}"
                    same(blocks, value, rtol=case.rtol, claim=claim)
                    for name in gradients:
                        same(others[name], gradients[name], rtol=1e-8, atol=1e-9, claim=f"gradient of {name}, {claim}")

    test_blocks.needs_option = "block_size"  # type: ignore[attr-defined]

    @pytest.mark.ddp
    @pytest.mark.parametrize("how", ["gathered", "passed_round"])
    @pytest.mark.parametrize("world", [2, 3])
    def test_processes(self, case: Case, world: int, how: str) -> None:
        """Rows split unevenly between processes give the value and every gradient of one process with all rows."""
        for n, d in ((world, 3), (11, 4)):
            for options in case.options:
                inputs = make_inputs(case, n, d, seed=4)
                value, gradients = value_and_gradients(case, inputs, options)
                for rank, (found, others) in enumerate(
                    ranks.run(in_one_process, case, inputs, options, how == "gathered", world=world)
                ):
                    claim = f"{case}, process {rank} of {world}, {how}, {dict(options)}"
                    same(found, value, rtol=1e-8, claim=claim)
                    for name, expected in gradients.items():
                        if case.arguments.get(name) in SPLIT:
                            expected = expected[part_of(rank, world, n)]
                        same(others[name], expected, rtol=1e-8, claim=f"gradient of {name}, {claim}")

    test_processes.needs_option = "group"  # type: ignore[attr-defined]

    def test_bad_input(self, case: Case, bad: Bad) -> None:
        """Bad input raises the right error, and the message names the argument."""
        arguments = {**case.options[0], **make_inputs(case, max(4, case.min_rows + 1), 3)}
        case({}, arguments)  # not vacuous: the call is fine before it is spoilt
        bad.spoil(arguments)
        with pytest.raises(bad.error) as caught:
            case.function(**arguments)
        assert any(name in str(caught.value) for name in bad.names), f"{caught.value} does not name {' or '.join(bad.names)}"


def permute(case: Case, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The same pairs in another order; the unpaired set is shuffled on its own."""

    def order(name: str) -> Tensor:
        n = len(inputs[name])
        return torch.randperm(n, generator=torch.Generator().manual_seed(n))

    return {name: inputs[name][order(name)] for name in case.arguments}


def rotate(case: Case, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """All embeddings turned by one orthogonal matrix."""
    d = next(inputs[name].shape[1] for name, role in case.arguments.items() if role == "rows")
    matrix = torch.linalg.qr(torch.randn(d, d, generator=torch.Generator().manual_seed(3), dtype=torch.float64))[0]
    return {name: inputs[name] @ matrix if role in EMBEDDINGS else inputs[name] for name, role in case.arguments.items()}


def rescale(case: Case, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Every row multiplied by its own positive number, from 1e-6 to 1e6."""
    generator = torch.Generator().manual_seed(4)

    def scaled(x: Tensor) -> Tensor:
        return x * 10.0 ** (12 * torch.rand(len(x), 1, generator=generator, dtype=torch.float64) - 6)

    return {name: scaled(inputs[name]) if role in EMBEDDINGS else inputs[name] for name, role in case.arguments.items()}


def swap(case: Case, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The first two arguments exchanged."""
    first, second, *_ = case.arguments
    return {**inputs, first: inputs[second], second: inputs[first]}
