"""The PyTorch network is the NumPy network, and its distribution treats absent queues as absent."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.policy.actions import NEUTRAL_CAPACITY, NEUTRAL_PLACE, NEUTRAL_SHARE
from prefect_intelligent.policy.encoding import POOL_FEATURES, QUEUE_FEATURES, Observation
from prefect_intelligent.policy.network import Network, choose
from rl.network import Actor, Choice, LeverPolicy
from simulations.envs.spaces import action_space, as_dict, observation_space


def actor(seed: int = 0) -> Actor:
    torch.manual_seed(seed)
    made = Actor(24)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    made.body.queues.mean.normal_()
    made.body.pool.std.uniform_(0.5, 2.0)
    return made


def observation(b: int = 6, n: int = 5, seed: int = 0) -> Observation:
    rng = np.random.default_rng(seed)
    mask = rng.random((b, n)) < 0.7
    mask[:, 0] = True
    queues = rng.normal(0, 2, (b, n, len(QUEUE_FEATURES))).astype(np.float32) * mask[..., None]
    return Observation(queues, rng.normal(0, 2, (b, len(POOL_FEATURES))).astype(np.float32), mask)


def tensors(seen: Observation) -> dict[str, torch.Tensor]:
    return {"queues": torch.tensor(seen.queues), "pool": torch.tensor(seen.pool), "mask": torch.tensor(seen.mask)}


def rows(seen: Observation) -> dict[str, torch.Tensor]:
    """As the environment gives them."""
    return {name: torch.tensor(part) for name, part in as_dict(seen, len(seen.pool)).items()}


def policy(n: int = 5, **kwargs: float) -> LeverPolicy:
    return LeverPolicy(observation_space(n), action_space(n), lambda _: 1e-3, width=24, **kwargs)


def test_numpy_and_torch_agree_and_weights_survive_the_round_trip() -> None:
    seen, made = observation(200), actor()
    arrays = made.export()
    ours = Network(arrays).gains(seen)
    with torch.no_grad():
        theirs = made(tensors(seen))
    for one, other in zip(ours, theirs, strict=True):
        assert np.allclose(one, other.numpy(), atol=2e-4)
    again = actor(1)
    again.load(arrays)
    assert all(np.array_equal(array, arrays[name]) for name, array in again.export().items())


def test_untrained_policy_is_the_base_rule() -> None:
    made = policy(temperature=0.1, queue_temperature=0.02, neutral_bonus=0.1)
    actions, value, _ = made.forward(rows(observation()), deterministic=True)
    assert (actions[:, 0] == NEUTRAL_CAPACITY).all()
    assert (actions[:, 1:6] == NEUTRAL_PLACE).all()
    assert (actions[:, 6:] == NEUTRAL_SHARE).all()
    assert (value == 0).all()


def test_the_greedy_action_is_what_the_exported_policy_chooses() -> None:
    made, seen = policy(temperature=0.05, queue_temperature=0.02, neutral_bonus=0.2), observation(300)
    made.actor.load(actor().export())
    actions, _, _ = made.forward(rows(seen), deterministic=True)
    levels = choose(Network(made.actor.export()).gains(seen), 0.2)
    there = seen.mask
    assert (actions[:, 0].numpy() == levels.capacity).all()
    assert (actions[:, 1:6].numpy() == levels.place)[there].all()
    assert (actions[:, 6:].numpy() == levels.share)[there].all()


def test_absent_queues_contribute_nothing_to_the_log_probability() -> None:
    made, seen = policy(), observation()
    made.actor.load(actor().export())
    choice = made.choice(tensors(seen))
    actions = choice.sample()
    mask = torch.tensor(seen.mask)
    other = actions.clone()
    absent = ~mask
    other[:, 1:6][absent] = (other[:, 1:6][absent] + 1) % 3
    other[:, 6:][absent] = (other[:, 6:][absent] + 1) % 3
    assert torch.equal(choice.log_prob(actions, mask), choice.log_prob(other, mask))
    expected = choice.capacity.gather(1, actions[:, :1])[:, 0]
    for q in range(5):
        for head, column in ((choice.place, 1 + q), (choice.share, 6 + q)):
            expected = expected + head[:, q].gather(1, actions[:, column : column + 1])[:, 0] * mask[:, q]
    assert torch.allclose(choice.log_prob(actions, mask), expected, atol=1e-5)


def test_worlds_of_several_pools_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="one pool"):
        LeverPolicy(observation_space(3, pools=2), action_space(3, pools=2), lambda _: 1e-3)


def test_samples_follow_the_probabilities() -> None:
    torch.manual_seed(0)
    logp = torch.log(torch.tensor([[0.7, 0.2, 0.1]]).expand(4000, 3))
    queue = torch.log(torch.full((4000, 1, 3), 1 / 3))
    drawn = Choice(logp, queue, queue).sample()[:, 0]
    shares = torch.bincount(drawn, minlength=3) / 4000
    assert torch.allclose(shares, torch.tensor([0.7, 0.2, 0.1]), atol=0.03)


def test_listing_queues_in_another_order_lists_the_answers_in_that_order() -> None:
    made, seen = actor(), observation()
    turned = torch.tensor([3, 0, 4, 1, 2])
    with torch.no_grad():
        one = made(tensors(seen))
        other = made(
            {**tensors(seen), "queues": tensors(seen)["queues"][:, turned], "mask": tensors(seen)["mask"][:, turned]}
        )
    assert torch.allclose(one[0], other[0], atol=1e-5)
    assert torch.allclose(one[1][:, turned], other[1], atol=1e-5)
    assert torch.allclose(one[2][:, turned], other[2], atol=1e-5)
