"""Points that stay, and runs that go on, through the estimator."""

from __future__ import annotations

import io

import numpy as np
import pytest
from sklearn.base import clone

from napari_embed.errors import InputError
from napari_embed.tsne import TSNE
from napari_embed.tsne.optimizer import OptimizerState

QUICK = {
    "max_iter": 90,
    "early_exaggeration_iter": 40,
    "perplexity": 8,
    "device": "cpu",
    "random_state": 0,
}


@pytest.mark.parametrize("n_components", [2, 3])
def test_pinned_points_stay(rng, n_components) -> None:
    x = rng.standard_normal((200, 6))
    init = rng.standard_normal((200, n_components)).astype(np.float32)
    pinned = rng.random(200) < 0.3
    given = init.copy(), pinned.copy()
    model = TSNE(n_components, init=init, **QUICK).fit(x, pinned=pinned)
    np.testing.assert_array_equal(model.embedding_[pinned], init[pinned])
    moved = np.linalg.norm(model.embedding_ - init, axis=1)[~pinned]
    assert np.median(moved) > 0.1
    np.testing.assert_array_equal(init, given[0])
    np.testing.assert_array_equal(pinned, given[1])
    as_list = clone(model).fit_transform(x, pinned=pinned.tolist())
    np.testing.assert_array_equal(as_list, model.embedding_)


def test_resumed_fit_is_the_unbroken_one_to_the_bit(rng) -> None:
    x = rng.standard_normal((300, 6))
    saved = io.BytesIO()

    def stop(report) -> bool:
        saved.seek(0)
        np.savez(saved, **report.snapshot().to_arrays())
        return report.iteration >= 60

    whole = TSNE(**QUICK).fit(x)
    broken = TSNE(callback=stop, **QUICK).fit(x)
    assert 60 <= broken.n_iter_ < 90
    saved.seek(0)
    with np.load(saved, allow_pickle=False) as arrays:
        state = OptimizerState.from_arrays(dict(arrays))
    resumed = TSNE(**QUICK).fit(x, checkpoint=state)
    assert resumed.n_iter_ == whole.n_iter_ == 90
    np.testing.assert_array_equal(resumed.embedding_, whole.embedding_)
    np.testing.assert_array_equal(
        resumed.transform(x[:5] + 0.1), whole.transform(x[:5] + 0.1)
    )
    assert resumed.kl_divergence_ == whole.kl_divergence_
    with pytest.raises(InputError, match="of 300 items, this run has 200"):
        TSNE(**QUICK).fit(x[:200], checkpoint=state)


def test_what_cannot_be_pinned(rng) -> None:
    x, init = rng.standard_normal((20, 3)), rng.standard_normal((20, 2))
    for pinned in (np.arange(20), [[True] * 20], "all"):
        with pytest.raises(InputError, match="True or False"):
            TSNE(init=init, **QUICK).fit(x, pinned=pinned)
    with pytest.raises(InputError, match="shape"):
        TSNE(init=init, **QUICK).fit(x, pinned=[True] * 19)
    with pytest.raises(InputError, match="init='auto'"):
        TSNE(**QUICK).fit(x, pinned=[True] * 20)
