"""What `vqzip train --preset` offers: everything that a training run is decided by."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from vqzip.model import ModelConfig
from vqzip.prior import PixelCNNConfig, PriorConfig
from vqzip.train.calibrate import CalibrateConfig
from vqzip.train.codebooks import CodebookConfig
from vqzip.train.data import DataConfig
from vqzip.train.filters import FilterConfig
from vqzip.train.joint import JointConfig
from vqzip.train.loss import LossConfig
from vqzip.train.optim import OptimConfig
from vqzip.train.thin import ThinConfig
from vqzip.vqvae import TransformConfig


@dataclass(frozen=True)
class Preset:
    """A model's shape and its training recipe."""

    model: ModelConfig = field(
        default_factory=lambda: ModelConfig(
            transform=TransformConfig(refine_width=48, modulated=True, graded=True)
        ).with_latents((*PixelCNNConfig().slices, 32, 32), fine=64)
    )
    data: DataConfig = field(default_factory=DataConfig)
    relaxed: LossConfig = field(default_factory=LossConfig)
    codebooks: CodebookConfig = field(default_factory=CodebookConfig)
    joint: JointConfig = field(default_factory=lambda: JointConfig(train_encoder=False))
    thin: ThinConfig = field(default_factory=ThinConfig)
    calibrate: CalibrateConfig = field(default_factory=CalibrateConfig)
    filters: FilterConfig = field(default_factory=FilterConfig)
    relaxed_optim: OptimConfig = field(default_factory=OptimConfig)
    joint_optim: OptimConfig = field(
        default_factory=lambda: OptimConfig(adam_rate=4e-4, muon_rate=8e-4)
    )
    mixed_precision: bool = True
    """Most products in bfloat16, where the processor has it."""
    relaxed_share: float = 0.6
    """Share of the time for the relaxed stage; if zero, the start's codebooks are gone on with."""
    relaxed_floor: float = 0.3
    """Rate at the end of the relaxed stage: what follows starts there anyway."""
    decay: float = 0.4
    """Share of the relaxed stage's time over which its learning rate falls."""
    joint_decay: float = 0.8
    """The same of the joint stage."""

    @property
    def needs_start(self) -> bool:
        """Whether there has to be a model to go on from."""
        return self.relaxed_share == 0


def _tiny() -> Preset:
    """A model that trains in seconds: for tests and for trying things out."""
    return Preset(
        model=ModelConfig(
            transform=TransformConfig(
                top_width=64,
                top_latents=16,
                bottom_latents=32,
                encoder_blocks=0,
                top_blocks=0,
                bottom_blocks=0,
                decoder_blocks=1,
                levels=3,
                lowest_lambda=0.002,
            ),
            prior=PriorConfig(
                top=PixelCNNConfig(
                    channels=16, slices=(4, 12), width=16, layers=1, slice_width=16, levels=3
                ),
                bottom=PixelCNNConfig(
                    channels=32,
                    slices=(4, 12, 16),
                    width=32,
                    layers=1,
                    slice_width=16,
                    condition=16,
                    levels=3,
                ),
                lift_width=16,
            ),
        ),
        data=DataConfig(crop=64, batch=2, pool=16, holdout=4),
        codebooks=CodebookConfig(largest=64, batches=2),
        thin=ThinConfig(batches=2),
        calibrate=CalibrateConfig(pictures=1, side=64, alone=0, steps=(1.5,)),
        filters=FilterConfig(pictures=4, side=64, kernels=4),
    )


def _more() -> Preset:
    """All stages of `photo` again from a trained model, more gently.

    The encoder learns in the relaxed stage, and its rate falls further there, as it stays as it is
    after that.
    """
    return Preset(
        relaxed_optim=OptimConfig(adam_rate=6e-4, muon_rate=1e-3), relaxed_floor=0.1, decay=0.6
    )


def _joint() -> Preset:
    """The joint stage of `photo` alone, from a model that has codebooks: to come to an end."""
    return Preset(
        joint_optim=OptimConfig(adam_rate=2e-4, muon_rate=4e-4), joint_decay=1.0, relaxed_share=0.0
    )


def _longer() -> Preset:
    """The joint stage of `photo` alone, at its own rates, from a model that has codebooks."""
    return Preset(relaxed_share=0.0)


def _wider() -> Preset:
    """The same from a model without fine latents: as they are new, they are trained, too."""
    return Preset(
        joint=JointConfig(train_encoder=False, train_fine=True),
        joint_decay=0.7,
        relaxed_share=0.0,
    )


def _polish(train_encoder: bool = False) -> Preset:
    """What comes after the codes, on codes as files have them: the last stage.

    With half the weight of structure: photos that are busy had lost in PSNR by the stages before.
    """
    joint = JointConfig(
        train_encoder=train_encoder, file_codes=True, loss=LossConfig(structure=100.0)
    )
    # In bfloat16, a step of photo-whole takes a fifth longer, measured on Sapphire Rapids.
    return Preset(joint=joint, joint_decay=1.0, relaxed_share=0.0, mixed_precision=False)


def _whole() -> Preset:
    """The same with the bottom map's encoder, at half of the others' rate."""
    polish = _polish(train_encoder=True)
    return replace(polish, joint_optim=replace(polish.joint_optim, slow_share=0.5))


def _end() -> Preset:
    """`photo-polish` at a quarter of its rates: from a mean of models."""
    return replace(_polish(), joint_optim=OptimConfig(adam_rate=1e-4, muon_rate=2e-4))


def _ends() -> Preset:
    """`photo-polish` for what weights depend on the level by, all else at a quarter of its rates.

    At full rates, models of before need half of an hour and more to come back to where they were.
    """
    polish = _polish()
    optim = replace(polish.joint_optim, slow_share=0.25)
    return replace(polish, joint=replace(polish.joint, new_ends=True), joint_optim=optim)


def _encoder() -> Preset:
    """The joint stage with the bottom map's encoder in it, too, from a model with codebooks."""
    return Preset(
        joint=JointConfig(train_encoder=True),
        joint_optim=OptimConfig(adam_rate=3e-4, muon_rate=6e-4),
        joint_decay=0.7,
        relaxed_share=0.0,
    )


PRESETS = {
    "photo": Preset,
    "photo-more": _more,
    "photo-joint": _joint,
    "photo-longer": _longer,
    "photo-polish": _polish,
    "photo-whole": _whole,
    "photo-end": _end,
    "photo-ends": _ends,
    "photo-encoder": _encoder,
    "photo-wider": _wider,
    "tiny": _tiny,
}
