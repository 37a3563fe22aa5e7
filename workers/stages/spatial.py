"""Spatial upscaling without the refinement that stage 2 does: latent to latent, as the temporal stage."""

from workers.stages.temporal import run

__all__ = ["run"]
