"""Whitening, full and in groups, against scikit-learn, a loop over the groups, and the limits where the shuffle must not matter."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cosine_similarity

from workbench.models.whitening import fit_whitening, group_whitening


def some(n=60, d=12, seed=0):
    """Correlated columns of unequal scale and mean, float64."""
    g = torch.Generator().manual_seed(seed)
    mix = torch.randn(d, d, generator=g, dtype=torch.float64)
    return torch.randn(n, d, generator=g, dtype=torch.float64) @ mix + torch.arange(d)


def covariance(x):
    x = x - x.mean(0)
    return x.T @ x / len(x)


def shuffle(d=12, seed=1):
    return torch.randperm(d, generator=torch.Generator().manual_seed(seed))


def slow(x, groups, permutation):
    """Group by group with numpy: the columns of a group are chosen, whitened, and written back to their own places."""
    x, z = x.numpy(), np.empty(x.shape)
    for columns in np.array_split(permutation.numpy(), groups):
        part = x[:, columns] - x[:, columns].mean(0)
        values, vectors = np.linalg.eigh(part.T @ part / len(part))
        z[:, columns] = part @ (vectors @ np.diag(values**-0.5) @ vectors.T)
    return torch.from_numpy(z)


@pytest.mark.parametrize("groups", [1, 3, 6, 12])
def test_group_whitening_is_the_loop(groups):
    """Permute, whiten block by block, un-permute: what the loop writes column by column."""
    x, order = some(), shuffle()
    torch.testing.assert_close(group_whitening(x, groups, permutation=order, eps=1e-12), slow(x, groups, order))
    torch.testing.assert_close(group_whitening(x, groups, eps=1e-12), slow(x, groups, torch.arange(12)))


def test_covariance_is_the_identity_within_groups_only():
    """Entries of the covariance inside a group become the identity's; those between groups stay free."""
    x, order = some(), shuffle()
    within = torch.zeros(12, 12, dtype=torch.bool)
    for columns in order.split(3):
        within[columns[:, None], columns] = True
    result = covariance(group_whitening(x, 4, permutation=order, eps=1e-12))
    torch.testing.assert_close(result[within], torch.eye(12, dtype=torch.float64)[within])
    assert result[~within].abs().max() > 0.1
    torch.testing.assert_close(covariance(group_whitening(x, 1, eps=1e-12)), torch.eye(12, dtype=torch.float64))


def test_the_shuffle_matters_in_between_and_not_at_the_ends():
    """Standardising each column (g = 1) and whitening all (g = d) commute with a permutation; groups of some do not."""
    x = some()
    for groups, same in ((12, True), (1, True), (4, False), (2, False)):
        copies = [group_whitening(x, groups, permutation=shuffle(seed=s)) for s in (1, 2)]
        cosine = float(cosine_similarity(*copies).mean())
        assert abs(cosine - 1) < 1e-9 if same else 0.3 < cosine < 0.999, groups


def test_groups_of_one_column_standardise():
    """g = 1 is minus mean over standard deviation, divisor n."""
    x = some()
    torch.testing.assert_close(group_whitening(x, 12, eps=1e-12), (x - x.mean(0)) / x.std(0, correction=0))


def test_shift_and_scale_do_not_matter():
    """Adding a constant to a column changes nothing, nor does scaling all of them."""
    x, order = some(), shuffle()
    expected = group_whitening(x, 4, permutation=order, eps=1e-12)
    torch.testing.assert_close(group_whitening(100 * x - 7, 4, permutation=order, eps=1e-12), expected)


def test_full_whitening_is_the_peer_library_up_to_its_rotation():
    """scikit-learn whitens with PCA's rotation, ours without one; turned by the components the two are equal."""
    from sklearn.decomposition import PCA

    x, new = some(), some(n=7, seed=5)
    peer = PCA(whiten=True).fit(x.numpy())
    scale = (len(x) / (len(x) - 1)) ** 0.5  # its divisor is n - 1
    for rows in (x, new):
        expected = torch.from_numpy(peer.transform(rows.numpy()) @ peer.components_ * scale)
        torch.testing.assert_close(fit_whitening(x, eps=1e-12)(rows), expected, atol=1e-7, rtol=1e-7)


def test_learned_and_group_whitening_agree_where_they_are_the_same_thing():
    """One group on the batch itself is the full whitening learned on it."""
    x = some()
    torch.testing.assert_close(fit_whitening(x)(x), group_whitening(x, 1))


def test_white_data_stays_as_it_is():
    """ZCA turns nothing: what is white already only loses its mean (PCA whitening would rotate it)."""
    white = group_whitening(some(), 1, eps=1e-12)
    torch.testing.assert_close(fit_whitening(white, eps=1e-12)(white + 3), white + 3)
    torch.testing.assert_close(group_whitening(white + 3, 4, permutation=shuffle(), eps=1e-12), white)


def test_gradients():
    """The full derivative passes gradcheck; the released one is that of a product with a constant matrix, and differs."""
    x = some(n=9, d=6).requires_grad_()
    order = shuffle(6)
    assert torch.autograd.gradcheck(lambda v: group_whitening(v, 2, permutation=order), x)
    direction = torch.randn(9, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    found = {}
    for detach in (False, True):
        (found[detach],) = torch.autograd.grad((group_whitening(x, 2, permutation=order, detach=detach) * direction).sum(), x)
    expected = torch.empty_like(direction)
    for columns in order.split(3):
        matrix = fit_whitening(x.detach()[:, columns]).matrix
        slope = direction[:, columns] @ matrix
        expected[:, columns] = slope - slope.mean(0)
    torch.testing.assert_close(found[True], expected)
    assert (found[True] - found[False]).abs().max() > 0.01


def test_columns_without_variance_stay_finite():
    """A dead channel becomes zero, and its neighbours in the group are whitened as if it were not there."""
    x = some()
    x[:, 4] = 2.0
    z = group_whitening(x.float(), 4)
    assert torch.isfinite(z).all() and z[:, 4].abs().max() < 1e-2
    torch.testing.assert_close(covariance(z[:, [3, 5]]), torch.eye(2), atol=1e-3, rtol=0)


def test_half_precision_is_computed_in_float32():
    """bfloat16 rows give what the same numbers in float32 give, also under autocast."""
    x = some().float()
    half = group_whitening(x.bfloat16(), 4)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, group_whitening(x.bfloat16().float(), 4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(group_whitening(x, 4), group_whitening(x.double(), 4).float(), atol=1e-4, rtol=1e-4)


def test_bad_input():
    """Groups that do not divide, too few rows, no permutation, NaN: each named."""
    x = some()
    for groups in (5, 0, -2, True, 2.0):
        with pytest.raises(ValueError, match="groups must be a whole number that divides the 12 columns"):
            group_whitening(x, groups)
    with pytest.raises(ValueError, match="more rows than the 6 columns"):
        group_whitening(x[:6], 2)
    with pytest.raises(ValueError, match="more rows than the 12 columns"):
        fit_whitening(x[:12])
    for order in (torch.zeros(12, dtype=torch.int64), torch.arange(11), torch.arange(12.0), [0, 1]):
        with pytest.raises(ValueError, match="permutation must"):
            group_whitening(x, 4, permutation=order)
    with pytest.raises(ValueError, match="eps must be a positive"):
        group_whitening(x, 4, eps=0)
    with pytest.raises(ValueError, match="1 of 60 rows with NaN"):
        group_whitening(x.index_fill(0, torch.tensor([3]), torch.nan), 4)
    with pytest.raises(ValueError, match="12 columns that the whitening was learned on"):
        fit_whitening(x)(x[:, :5])
