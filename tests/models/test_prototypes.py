"""Prototypes: cosines, unit length kept through training, freezing."""

import pytest
import torch

from workbench.models import Prototypes


def test_scores_are_cosines():
    """Each score is the cosine of an embedding and a prototype, whatever the length of the embedding."""
    torch.manual_seed(0)
    prototypes, z = Prototypes(6, 4), torch.randn(5, 6)
    expected = torch.nn.functional.cosine_similarity(z[:, None], prototypes.weight[None], dim=2)
    torch.testing.assert_close(prototypes(z), expected)
    torch.testing.assert_close(prototypes(1e3 * z), expected)


def test_optimiser_leaves_the_sphere_and_normalize_brings_back():
    """A step changes the lengths; `normalize_` restores them without turning a prototype."""
    torch.manual_seed(0)
    prototypes = Prototypes(6, 4)
    optimiser = torch.optim.SGD(prototypes.parameters(), lr=1.0)
    prototypes(torch.randn(8, 6)).square().sum().backward()
    optimiser.step()
    assert (prototypes.weight.norm(dim=1) - 1).abs().max() > 0.1
    direction = torch.nn.functional.normalize(prototypes.weight.detach())
    assert prototypes.normalize_() is prototypes
    torch.testing.assert_close(prototypes.weight.detach(), direction)
    assert prototypes.weight.is_leaf and prototypes.weight.requires_grad


def test_frozen_prototypes_stand_still():
    """Without requires_grad the embeddings still get a gradient and Adam leaves the prototypes alone."""
    torch.manual_seed(0)
    prototypes, z = Prototypes(6, 4), torch.randn(5, 6, requires_grad=True)
    adam = torch.optim.Adam(prototypes.parameters())
    before = prototypes.weight.clone()
    prototypes.weight.requires_grad_(False)
    prototypes(z).sum().backward()
    adam.step()
    assert torch.equal(prototypes.weight, before) and z.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: Prototypes(0, 3), "in_features"),
        (lambda: Prototypes(3, 0), "count"),
        (lambda: Prototypes(4, 3)(torch.randn(2, 5)), "embeddings"),
        (lambda: Prototypes(4, 3)(torch.zeros(2, 4)), "embeddings"),
        (lambda: Prototypes(4, 3)(torch.full((2, 4), float("nan"))), "embeddings"),
    ],
)
def test_refuses(call, name):
    """Bad input is named."""
    with pytest.raises(ValueError, match=name):
        call()
