"""The policy network of `prefect_intelligent.policy.network` in PyTorch, trainable, with a critic.

The actor has the layers, names and arithmetic of the NumPy network, so weights are exported by copying. Its heads
predict what each level saves; divided by a temperature, the savings are the logits of one categorical distribution per
lever. So the same network is first fitted to labels (`rl.pretrain`) and then fine-tuned by PPO. Heads start at zero:
with the bonus on neutral levels the most likely action of an untrained policy is the base rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import Tensor, nn
from torch.nn.functional import linear

from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.policy.actions import NEUTRAL_CAPACITY, NEUTRAL_PLACE, NEUTRAL_SHARE
from prefect_intelligent.policy.encoding import POOL_FEATURES, QUEUE_FEATURES, Array32
from prefect_intelligent.policy.network import CLIP, N_CAPACITY, N_PLACES, N_SHARES

N_QUEUE, N_POOL = len(QUEUE_FEATURES), len(POOL_FEATURES)

Observations = Mapping[str, Tensor]
"""Tensors "queues" (b, n, N_QUEUE), "pool" (b, N_POOL) and "mask" (b, n)."""


class Normaliser(nn.Module):
    """Centres and scales features by statistics that are part of the network and of the bundle."""

    mean: Tensor
    std: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("std", torch.ones(size))

    def forward(self, features: Tensor) -> Tensor:
        """Normalised features, clipped at `CLIP` standard deviations."""
        return ((features - self.mean) / self.std).clamp(-CLIP, CLIP)


class Encoded(NamedTuple):
    """Hidden states of b observations that have p queues in all.

    Attributes:
        present: Row (observation) and column of each of those queues, two tensors of shape (p,).
        hidden: Hidden states of the queues, shape (p, width).
        trunk: Hidden states of the pools, shape (b, width).
    """

    present: tuple[Tensor, ...]
    hidden: Tensor
    trunk: Tensor


class Body(nn.Module):
    """The encoder shared by all queues and the summary of the pool."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.queues, self.pool = Normaliser(N_QUEUE), Normaliser(N_POOL)
        self.encoder_1 = nn.Linear(N_QUEUE + N_POOL, width)
        self.encoder_2 = nn.Linear(width, width)
        self.trunk = nn.Linear(2 * width + N_POOL, width)

    def forward(self, seen: Observations) -> Encoded:
        """Hidden states of the queues that exist, and of the pool."""
        mask = seen["mask"] > 0
        row, _ = present = mask.nonzero(as_tuple=True)
        pool = self.pool(seen["pool"])
        own, shared = torch.split(self.encoder_1.weight, [N_QUEUE, N_POOL], 1)
        of_pool = linear(pool, shared, self.encoder_1.bias)  # the same for all queues of a pool
        first = linear(self.queues(seen["queues"][present]), own) + of_pool.index_select(0, row)
        hidden = torch.relu(self.encoder_2(torch.relu(first)))
        counts = mask.sum(1)
        total = hidden.new_zeros(len(counts), hidden.shape[-1]).index_add(0, row, hidden)
        mean = total / counts.clamp(min=1).unsqueeze(1)
        most = torch.segment_reduce(hidden, "max", lengths=counts, initial=0)
        trunk = torch.relu(self.trunk(torch.cat([mean, most, pool], -1)))
        return Encoded(present, hidden, trunk)


class Actor(nn.Module):
    """Predicted savings of every level against the base rule; parameters are named as in the bundle."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = Body(width)
        self.pool_head = nn.Linear(width, N_CAPACITY)
        self.queue_1 = nn.Linear(2 * width, width)
        self.queue_head = nn.Linear(width, N_PLACES + N_SHARES)
        for head in (self.pool_head, self.queue_head):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    def forward(self, seen: Observations) -> tuple[Tensor, Tensor, Tensor]:
        """Savings by capacity (b, N_CAPACITY), place (b, n, N_PLACES) and share (b, n, N_SHARES); neutral is 0."""
        present, hidden, trunk = self.body(seen)
        capacity = self.pool_head(trunk)
        own, shared = torch.split(self.queue_1.weight, hidden.shape[-1], 1)
        local = torch.relu(linear(hidden, own) + linear(trunk, shared, self.queue_1.bias).index_select(0, present[0]))
        place, share = torch.split(self.queue_head(local), [N_PLACES, N_SHARES], 1)
        return (
            capacity - capacity[:, NEUTRAL_CAPACITY, None],
            self._spread(seen, present, place - place[:, NEUTRAL_PLACE, None]),
            self._spread(seen, present, share - share[:, NEUTRAL_SHARE, None]),
        )

    @staticmethod
    def _spread(seen: Observations, present: tuple[Tensor, ...], values: Tensor) -> Tensor:
        """Values of the queues that exist, shape (p, k), as a table (b, n, k) with zeros elsewhere."""
        return values.new_zeros(*seen["mask"].shape, values.shape[-1]).index_put(present, values)

    def export(self) -> dict[str, Array32]:
        """The arrays of the NumPy network."""
        arrays: dict[str, Array32] = {}
        for name, tensor in self.state_dict().items():
            array = tensor.detach().cpu().numpy().astype(np.float32)
            linear = name.endswith(".weight")
            arrays[name.removeprefix("body.")] = np.ascontiguousarray(array.T) if linear else array.copy()
        return arrays

    def load(self, arrays: Mapping[str, Array32]) -> None:
        """Load the arrays of a NumPy network."""
        state = {}
        for name in self.state_dict():
            array = torch.from_numpy(np.array(arrays[name.removeprefix("body.")]))
            state[name] = array.T.contiguous() if name.endswith(".weight") else array
        self.load_state_dict(state)


class Critic(nn.Module):
    """The value of a state: the saving against the base rule that is still to come."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = Body(width)
        self.head = nn.Linear(width, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, seen: Observations) -> Tensor:
        """Shape (b, 1)."""
        value: Tensor = self.head(self.body(seen).trunk)
        return value


class Choice(NamedTuple):
    """Log-probabilities of every level: capacity (b, k), place (b, n, k) and share (b, n, k)."""

    capacity: Tensor
    place: Tensor
    share: Tensor

    def sample(self) -> Tensor:
        """A random action, shape (b, 1 + 2 n), by the Gumbel trick."""
        return self._take([logp - torch.log(-torch.log(torch.rand_like(logp).clamp(1e-12, 1 - 1e-7))) for logp in self])

    def mode(self) -> Tensor:
        """The most likely action, shape (b, 1 + 2 n)."""
        return self._take(list(self))

    def log_prob(self, actions: Tensor, mask: Tensor) -> Tensor:
        """Log-probability of actions, shape (b,); absent queues contribute nothing."""
        present, n = mask.float(), mask.shape[1]
        actions = actions.long()
        capacity = self.capacity.gather(1, actions[:, :1]).squeeze(1)
        place = self.place.gather(2, actions[:, 1 : 1 + n].unsqueeze(-1)).squeeze(-1)
        share = self.share.gather(2, actions[:, 1 + n :].unsqueeze(-1)).squeeze(-1)
        return capacity + ((place + share) * present).sum(1)

    def entropy(self, mask: Tensor) -> Tensor:
        """Entropy of the whole action, shape (b,)."""
        capacity, place, share = (-(logp.exp() * logp).sum(-1) for logp in self)
        return capacity + ((place + share) * mask.float()).sum(1)

    def _take(self, scores: list[Tensor]) -> Tensor:
        capacity, place, share = (score.argmax(-1) for score in scores)
        return torch.cat([capacity.unsqueeze(1), place, share], 1)


class LeverPolicy(ActorCriticPolicy):
    """Actor and critic as a policy of stable-baselines3, for worlds of one pool.

    Args:
        observation_space: That of `PrefectCluster-v0`; as there, "queues" is given as flat rows.
        action_space: That of `PrefectCluster-v0`.
        lr_schedule: Learning rate by remaining progress.
        width: Units per layer.
        temperature: Saving that makes a level of the pool e times as likely.
        queue_temperature: The same for levels of queues; smaller, because exploring on many queues at once costs more
            than it teaches.
        neutral_bonus: Saving that is added to neutral levels; the margin of the exported policy.
        **others: Passed on to `ActorCriticPolicy`.
    """

    actor: Actor
    critic: Critic

    def __init__(
        self,
        observation_space: spaces.Dict,
        action_space: spaces.MultiDiscrete,
        lr_schedule: Schedule,
        width: int = 64,
        temperature: float = 0.05,
        queue_temperature: float = 0.05,
        neutral_bonus: float = 0.05,
        **others: Any,
    ) -> None:
        self.width, self.neutral_bonus = width, neutral_bonus
        self.temperature, self.queue_temperature = temperature, queue_temperature
        pools = observation_space["pool"].shape[0] // N_POOL  # type: ignore[index]
        if pools != 1:
            raise InvalidInputError("pools per world", pools, "this policy decides for one pool")
        super().__init__(observation_space, action_space, lr_schedule, **others)

    def _build(self, lr_schedule: Schedule) -> None:  # where ActorCriticPolicy makes its networks
        self.actor, self.critic = Actor(self.width), Critic(self.width)
        self.optimizer = self.optimizer_class(self.parameters(), **(self.optimizer_kwargs | {"lr": lr_schedule(1)}))

    def choice(self, seen: Observations) -> Choice:
        """The distribution over actions."""
        gains = self.actor(seen)
        logits, neutrals = [], (NEUTRAL_CAPACITY, NEUTRAL_PLACE, NEUTRAL_SHARE)
        temperatures = (self.temperature, self.queue_temperature, self.queue_temperature)
        for gain, neutral, temperature in zip(gains, neutrals, temperatures, strict=True):
            bonus = torch.zeros(gain.shape[-1])
            bonus[neutral] = self.neutral_bonus
            logits.append(torch.log_softmax((gain + bonus) / temperature, -1))
        return Choice(*logits)

    def forward(self, obs: Any, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Actions, values and log-probabilities."""
        seen = _unflatten(obs)
        choice = self.choice(seen)
        actions = choice.mode() if deterministic else choice.sample()
        return actions, self.critic(seen), choice.log_prob(actions, seen["mask"])

    def evaluate_actions(self, obs: PyTorchObs, actions: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Values, log-probabilities and entropies of given actions."""
        seen = _unflatten(obs)
        choice = self.choice(seen)
        return self.critic(seen), choice.log_prob(actions, seen["mask"]), choice.entropy(seen["mask"])

    def predict_values(self, obs: PyTorchObs) -> Tensor:
        """Values of observations."""
        value: Tensor = self.critic(_unflatten(obs))
        return value

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> Tensor:
        choice = self.choice(_unflatten(observation))
        return choice.mode() if deterministic else choice.sample()


def _unflatten(obs: PyTorchObs) -> Observations:
    """The environment's flat rows as tables with one row per queue."""
    assert not isinstance(obs, Tensor)
    queues = obs["queues"]
    return {**obs, "queues": queues.reshape(len(queues), -1, N_QUEUE)}
