"""Projection heads against the layers written out."""

import pytest
import torch

from workbench import UnknownNameError
from workbench.models import ProjectionHead


def test_two_layers_written_out():
    """W2 relu(W1 h + b1) + b2."""
    torch.manual_seed(0)
    head, h = ProjectionHead(5, 7, 3), torch.randn(4, 5)
    first, last = head.layers[0], head.layers[-1]
    torch.testing.assert_close(head(h), (h @ first.weight.T + first.bias).relu() @ last.weight.T + last.bias)


def test_one_layer_is_linear():
    """A linear projection: additive, and without bias zero at zero."""
    torch.manual_seed(0)
    head, x, y = ProjectionHead(5, 99, 3, layers=1, bias=False), torch.randn(4, 5), torch.randn(4, 5)
    torch.testing.assert_close(head(2 * x + y), 2 * head(x) + head(y))
    assert sum(p.numel() for p in head.parameters()) == 15


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("norm", [None, "batch", "layer"])
def test_depth_norm_and_gradients(layers, norm):
    """The number of linear maps is `layers`, a norm follows each but the last, and every parameter is trained."""
    torch.manual_seed(0)
    head = ProjectionHead(5, 8, 3, layers=layers, norm=norm)
    kinds = [type(m).__name__ for m in head.layers]
    assert kinds.count("Linear") == layers and kinds[-1] == "Linear" and kinds.count("ReLU") == layers - 1
    assert sum("Norm" in k for k in kinds) == (layers - 1) * (norm is not None)
    (head(torch.randn(16, 5)) * torch.randn(16, 3)).sum().backward()
    assert all(p.grad.abs().max() > 0 for p in head.parameters())


def test_hidden_layer_is_normalised():
    """Batch norm standardises each hidden unit over the batch, layer norm each row over its units."""
    torch.manual_seed(0)
    h = torch.randn(64, 5) * 10 + 3
    for norm, dim in (("batch", 0), ("layer", 1)):
        hidden = ProjectionHead(5, 32, 3, norm=norm).layers[:2](h)
        torch.testing.assert_close(hidden.mean(dim), torch.zeros(hidden.shape[1 - dim]), atol=1e-5, rtol=0)
        torch.testing.assert_close(hidden.std(dim, unbiased=False), torch.ones(hidden.shape[1 - dim]), atol=1e-3, rtol=0)


def test_bad_input():
    """Depth, widths, names and shapes."""
    for bad in ({"layers": 0}, {"in_features": 0}, {"hidden": 0}, {"out_features": 0}):
        with pytest.raises(ValueError, match="must be at least 1"):
            ProjectionHead(**{"in_features": 4, "hidden": 4, "out_features": 2, **bad})
    with pytest.raises(UnknownNameError, match="did you mean 'layer'"):
        ProjectionHead(4, 4, 2, norm="layr")
    for bad in (torch.zeros(3, 5), torch.zeros(4), torch.zeros(3, 4, dtype=torch.int64)):
        with pytest.raises(ValueError, match=r"shape \(n, 4\)"):
            ProjectionHead(4, 4, 2)(bad)
    with pytest.raises(TypeError, match="torch tensor"):
        ProjectionHead(4, 4, 2)([[1.0] * 4])
