"""Everything that a training is at one step, as plain tensors and numbers: take it, put it back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from visir.core.errors import CheckpointError
from visir.engine.build import describe
from visir.engine.files import copied
from visir.engine.step import EngineStep
from visir.methods.base import Method, Optim

MODEL, OPTIMIZER = "model/", "optimizer/"


@dataclass(frozen=True, eq=False)
class State:
    """A training after ``step`` steps.

    Attributes:
        step: number of steps done.
        about: method, num_identities, config, seed, steps_per_epoch, data: what must be equal to go on.
        tensors: on the CPU; ``model/...`` is the method's state dict, ``optimizer/NAME/PARAMETER/KEY`` the rest.
        values: what optimizers and loss scaling remember beside tensors; plain JSON.
    """

    step: int
    about: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    values: Mapping[str, Any]

    @property
    def epoch(self) -> float:
        """Fractional epoch."""
        return float(self.step / self.about["steps_per_epoch"])

    def model(self) -> dict[str, Tensor]:
        """The method's state dict."""
        return {name.removeprefix(MODEL): t for name, t in self.tensors.items() if name.startswith(MODEL)}


def about(method: Method[Any], *, seed: int, steps_per_epoch: int, data: str = "") -> dict[str, Any]:
    """What a state says of its origin."""
    return {**describe(method), "seed": seed, "steps_per_epoch": steps_per_epoch, "data": data}


def capture(
    method: Method[Any], optims: Mapping[str, Optim], step: EngineStep, *, done: int, origin: Mapping[str, Any]
) -> State:
    """Copy everything that the next step depends on."""
    tensors = {f"{MODEL}{name}": tensor for name, tensor in method.state_dict().items()}
    values: dict[str, Any] = {}
    for name, optim in optims.items():
        for index, remembered in optim.optimizer.state_dict()["state"].items():
            for key, value in remembered.items():
                place = f"{OPTIMIZER}{name}/{index}/{key}"
                if isinstance(value, Tensor):
                    tensors[place] = value
                else:
                    values[place] = value
    return State(done, dict(origin), copied(tensors), {"optimizers": values, "scaler": step.scaler.state_dict()})


def restore(state: State, method: Method[Any], optims: Mapping[str, Optim], step: EngineStep) -> None:
    """Put a state back.

    Raises:
        CheckpointError: tensors that the method does not have, or lacks.
    """
    try:
        method.load_state_dict(state.model())
    except RuntimeError as error:
        raise CheckpointError(f"the checkpoint does not fit the method: {' '.join(str(error).split())}") from error
    for name, optim in optims.items():
        _restore_optimizer(state, name, optim.optimizer)
    step.scaler.load_state_dict(dict(state.values["scaler"]))


def _restore_optimizer(state: State, name: str, optimizer: torch.optim.Optimizer) -> None:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    remembered: dict[int, dict[str, Any]] = {}
    prefix = f"{OPTIMIZER}{name}/"
    for place, value in [*state.tensors.items(), *state.values["optimizers"].items()]:
        if place.startswith(prefix):
            index, _, key = place.removeprefix(prefix).partition("/")
            remembered.setdefault(int(index), {})[key] = _laid_out(value, parameters[int(index)])
    groups = optimizer.state_dict()["param_groups"]  # from the configuration, which is equal; rates follow the step
    optimizer.load_state_dict({"state": remembered, "param_groups": groups})


def _laid_out(value: Any, parameter: Tensor) -> Any:
    """A tensor of a parameter's shape in its memory layout, for optimizers that walk both at once."""
    if not isinstance(value, Tensor) or value.shape != parameter.shape:
        return value
    return torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)


def check(state: State, expected: Mapping[str, Any]) -> None:
    """Raise CheckpointError unless the state is of the same method, configuration, identities, seed and data."""
    for key, ours in _flat(expected).items():
        theirs = _flat(state.about).get(key)
        if theirs != ours:
            raise CheckpointError(
                f"the checkpoint has {key} = {theirs!r}, this training {ours!r}; continue with the configuration that "
                "made it, or train into a new folder."
            )


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return flat
