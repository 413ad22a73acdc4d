"""What a method sees of the engine during one step: minimize, gather, the step's number, its own random numbers."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from visir.core.errors import TrainingError, nearest
from visir.core.seeds import derived_seed
from visir.engine import ranks
from visir.engine.runtime import Runtime
from visir.methods.base import Optim


class EngineStep:
    """Fulfils :class:`visir.methods.base.Step`; one object serves all steps of a training.

    Attributes:
        index: number of ``train_step`` calls before this one.
        epoch: fractional epoch.
        halted: a loss was not finite and its update was left out. Known at once on CPUs; on GPUs, where looking would
            make the host wait, :func:`visir.engine.fit.fit` looks each time it logs.
        scaler: loss scaling, at work only with fp16.
    """

    def __init__(self, optims: Mapping[str, Optim], runtime: Runtime, *, seed: int, steps_per_epoch: int) -> None:
        self._optims, self._runtime, self._seed, self._steps_per_epoch = optims, runtime, seed, steps_per_epoch
        self._base = {name: [group["lr"] for group in o.optimizer.param_groups] for name, o in optims.items()}
        self._generator: torch.Generator | None = None
        self.scaler = torch.amp.GradScaler(runtime.device.type, enabled=runtime.precision == "fp16")
        self.index, self.epoch, self.halted = 0, 0.0, False

    def begin(self, index: int) -> None:
        """Turn to step ``index``: its learning rates, and PyTorch's own random numbers (dropout) from its number."""
        self.index, self.epoch, self._generator = index, index / self._steps_per_epoch, None
        torch.manual_seed(derived_seed(self._seed, "step", index, self._runtime.rank))
        for name, optim in self._optims.items():
            factor = optim.schedule(self.epoch)
            for group, base in zip(optim.optimizer.param_groups, self._base[name], strict=True):
                group["lr"] = base * factor

    @property
    def epoch_after(self) -> float:
        """Fractional epochs done once this step is."""
        return (self.index + 1) / self._steps_per_epoch

    @property
    def ends_epoch(self) -> bool:
        """Whether this step is the last one of its epoch."""
        return (self.index + 1) % self._steps_per_epoch == 0

    @property
    def generator(self) -> torch.Generator:
        """CPU generator that depends on (seed, step) alone; equal on all ranks."""
        if self._generator is None:
            self._generator = torch.Generator().manual_seed(derived_seed(self._seed, "method", self.index))
        return self._generator

    @property
    def rates(self) -> dict[str, float]:
        """The learning rates of this step, by optimizer, and by group (``main/0``) where there are several."""
        shown = {}
        for name, optim in self._optims.items():
            groups = optim.optimizer.param_groups
            for i, group in enumerate(groups):
                shown[f"{name}/{i}" if len(groups) > 1 else name] = float(group["lr"])
        return shown

    def gather(self, tensor: Tensor) -> Tensor:
        """(B, ...) -> (world * B, ...), rank after rank, differentiable; the identity on one rank.

        A batch is its visible half, then its infrared half, on every rank. Gather the halves apart, so that the result
        keeps that order.
        """
        return ranks.gather(tensor, self._runtime.rank, self._runtime.world)

    def share(self, tensor: Tensor) -> Tensor:
        """(world * B, ...) -> (B, ...): this rank's part of a joint tensor in the order that :meth:`gather` gives.

        Noise drawn for the joint batch from :attr:`generator` and shared so is the same on any number of ranks.
        """
        return tensor.chunk(self._runtime.world)[self._runtime.rank]

    def minimize(self, loss: Tensor, *names: str) -> None:
        """Update the parameters of the named optimizers, and of no others, to lower ``loss``.

        Their gradients start from nothing, are averaged over ranks and clipped. Gradients of other parameters are
        neither computed nor touched. On CPUs nothing is updated if the loss is not finite on any rank.

        Raises:
            TrainingError: an unknown name, or a loss that is no scalar or depends on no parameter.
        """
        chosen = [self._named(name) for name in names]
        if not chosen or loss.dim() or not loss.requires_grad:
            raise TrainingError(
                "minimize: expected a scalar loss with a gradient and the names of optimizers, got a loss of shape "
                f"{tuple(loss.shape)}, requires_grad {loss.requires_grad}, and names {names}."
            )
        parameters = [p for o in chosen for group in o.optimizer.param_groups for p in group["params"]]
        parameters = [p for p in parameters if p.requires_grad]
        for parameter in parameters:
            parameter.grad = None
        with torch.autocast(self._runtime.device.type, enabled=False):
            torch.autograd.backward(self.scaler.scale(loss), inputs=parameters)
            if self._agree(loss, [p.grad for p in parameters if p.grad is not None]):
                self._update(chosen)
        torch.clear_autocast_cache()  # it holds low-precision copies of the weights as they were

    def _agree(self, loss: Tensor, gradients: list[Tensor]) -> bool:
        """Average over ranks; whether to update."""
        shown = loss.detach().clone()
        ranks.average([shown, *gradients], self._runtime.world)
        if self._runtime.device.type == "cpu" and not bool(shown.isfinite()):
            self.halted = True
        return not self.halted

    def _update(self, chosen: list[Optim]) -> None:
        for optim in chosen:
            if optim.clip_norm is not None:
                self.scaler.unscale_(optim.optimizer)
                own = [p for group in optim.optimizer.param_groups for p in group["params"]]
                torch.nn.utils.clip_grad_norm_(own, optim.clip_norm)
            self.scaler.step(optim.optimizer)
        self.scaler.update()

    def _named(self, name: str) -> Optim:
        if name not in self._optims:
            raise TrainingError(f"minimize: no optimizer is named {name!r}. {nearest(name, self._optims)}")
        return self._optims[name]
