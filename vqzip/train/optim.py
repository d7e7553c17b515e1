"""Muon for matrices and convolutions, AdamW for everything else, one schedule for both."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class OptimConfig:
    """Learning rates at their plateau, and the shape of the schedule."""

    adam_rate: float = 8e-4
    muon_rate: float = 1.5e-3
    warmup_steps: int = 100
    clip_norm: float = 1.0
    average_decay: float = 0.999
    """Decay of the exponential moving average of the weights, which is what ships."""
    slow_share: float = 0.2
    """Rate of a model's `slow` weights in the others'."""
    smallest_matrix: int = 32
    """Weights with a shorter side than this are left to AdamW."""


def orthogonalize(matrix: Tensor, steps: int = 5) -> Tensor:
    """Nearest semi-orthogonal matrix, roughly: singular values end up between 0.7 and 1.2.

    Quintic Newton-Schulz iteration with the coefficients of Jordan et al. 2024, "Muon".  In the
    matrix's own precision, as bfloat16 is ten times slower than float32 on older CPUs.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: Tensor = x.T if matrix.shape[0] > matrix.shape[1] else x
    return result


class Muon(torch.optim.Optimizer):
    """Momentum orthogonalized by Newton-Schulz (Jordan et al. 2024).

    torch.optim.Muon takes two-dimensional parameters only and iterates in bfloat16; here a
    convolution counts as the matrix (outputs, inputs x taps).  The update is scaled to AdamW's
    usual size, 0.2 sqrt(longer side).
    """

    def __init__(
        self, params: Iterable[Tensor] | list[dict[str, Any]], lr: float, momentum: float = 0.95
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Apply one update; `closure` is not supported."""
        assert closure is None
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is None:
                    continue
                state = self.state[param]
                if not state:
                    state["momentum"] = torch.zeros_like(param)
                state["momentum"].lerp_(param.grad, 1 - group["momentum"])
                blend = param.grad.lerp(state["momentum"], group["momentum"])
                update = orthogonalize(blend.reshape(len(blend), -1))
                scale = 0.2 * max(update.shape) ** 0.5
                param.add_(update.reshape(param.shape), alpha=-group["lr"] * scale)


class Optimizer:
    """Both optimizers, the schedule and gradient clipping behind one `step`.

    The rate is given as a fraction of the plateau by the caller, who knows the plan.
    """

    def __init__(
        self,
        model: nn.Module,
        config: OptimConfig,
        adam_only: tuple[str, ...],
        slow: tuple[str, ...],
    ) -> None:
        """`adam_only` and `slow` are how names of parameters start."""
        self.config = config
        trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self.params = [p for _, p in trained]
        matrices = {
            name
            for name, p in trained
            if p.ndim == 4
            and not name.startswith(adam_only)
            and min(len(p), p[0].numel()) >= config.smallest_matrix
        }

        def groups(by_muon: bool) -> list[dict[str, Any]]:
            mine = [(name, p) for name, p in trained if (name in matrices) == by_muon]
            fast = [p for name, p in mine if not name.startswith(slow)]
            others = [p for name, p in mine if name.startswith(slow)]
            return [
                {"params": fast, "share": 1.0},
                {"params": others, "share": config.slow_share},
            ]

        self.adam = torch.optim.AdamW(
            groups(by_muon=False), lr=config.adam_rate, betas=(0.9, 0.98), weight_decay=0.0
        )
        self.muon = Muon(groups(by_muon=True), lr=config.muon_rate)

    def step(self, fraction: float) -> float:
        """Clip, update at `fraction` of the plateau's rate, clear; returns the gradient norm."""
        norm = nn.utils.clip_grad_norm_(self.params, self.config.clip_norm)
        plateau = ((self.adam, self.config.adam_rate), (self.muon, self.config.muon_rate))
        for optimizer, rate in plateau:
            for group in optimizer.param_groups:
                group["lr"] = rate * fraction * group["share"]
            optimizer.step()
            optimizer.zero_grad()
        return float(norm)

    def state_dict(self) -> dict[str, Any]:
        """State of both, to resume from."""
        return {"adam": self.adam.state_dict(), "muon": self.muon.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume; the inverse of `state_dict`."""
        self.adam.load_state_dict(state["adam"])
        self.muon.load_state_dict(state["muon"])
