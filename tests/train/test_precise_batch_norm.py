"""The statistics that an evaluation uses are those of the whole training set under the weights as they are."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rethink_fast.data import loader
from rethink_fast.train.evaluate import estimate_statistics, evaluate
from rethink_fast.train.precise_batch_norm import BatchNormStatistics
from tests.train.test_loop import run_of, setup_of


def test_batches_add_up_to_the_moments_of_all_images() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(3)
    images = 5 + 2 * torch.randn(70, 3, 4, 4)
    statistics = BatchNormStatistics(norm)
    statistics.begin()
    for batch in images.split(32):
        with statistics.adding(len(batch)):
            norm(batch)
    statistics.finish()
    assert norm.momentum == 0.1
    assert norm.running_mean is not None
    assert norm.running_var is not None
    # float32 sums of 70 * 16 values; the variance of a batch is divided by one value less, 1 of 96 at the least
    assert torch.allclose(norm.running_mean, images.mean((0, 2, 3)), rtol=1e-6)
    assert torch.allclose(norm.running_var, images.var((0, 2, 3)), rtol=1 / 96)


def test_the_running_averages_of_training_do_not_reach_an_evaluation() -> None:
    setup = setup_of(run_of("inception_small", limit=40, batch_size=16))
    estimate_statistics(setup.step, setup.train, lambda: None)
    expected = evaluate(setup.step, setup.train, lambda: None)
    for name, buffer in setup.model.named_buffers():
        if "running" in name:
            buffer.fill_(3.0)
    assert evaluate(setup.step, setup.train, lambda: None) != expected
    estimate_statistics(setup.step, setup.train, lambda: None)
    assert evaluate(setup.step, setup.train, lambda: None) == expected


def test_an_estimate_leaves_weights_generators_and_training_alone() -> None:
    run = run_of("inception_small", limit=40, batch_size=16, lr=0.01)
    with_estimate, without = setup_of(run), setup_of(run)
    for epoch in range(2):
        for setup in (with_estimate, without):
            setup.step.begin_epoch(epoch)
            for batch in setup.train.epoch(epoch):
                setup.step.train(setup.train, batch)
        estimate_statistics(with_estimate.step, with_estimate.train, lambda: None)
        assert with_estimate.step.online() == without.step.online()
    for name, value in without.step.state().items():
        if "running" not in name and "num_batches" not in name:
            assert torch.equal(value, with_estimate.step.state()[name]), name


def test_an_estimate_that_is_stopped_starts_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "EVALUATION_BATCH", 16)
    setup = setup_of(run_of("inception_small", limit=40, batch_size=16))
    estimate_statistics(setup.step, setup.train, lambda: None)
    expected = setup.step.state()
    stops = iter([None])
    with pytest.raises(StopIteration):
        estimate_statistics(setup.step, setup.train, lambda: next(stops))
    estimate_statistics(setup.step, setup.train, lambda: None)
    for name, value in expected.items():
        assert torch.equal(value, setup.step.state()[name]) or "num_batches" in name, name


def test_a_forward_pass_that_fails_leaves_the_settings_of_training() -> None:
    norm = nn.BatchNorm2d(3)
    statistics = BatchNormStatistics(norm)
    with pytest.raises(ValueError, match="4D"), statistics.adding(2):
        norm(torch.ones(2, 3))
    assert (norm.momentum, norm.training) == (0.1, False)


def test_a_network_without_batch_norm_has_none() -> None:
    assert not BatchNormStatistics(nn.Linear(2, 2))
