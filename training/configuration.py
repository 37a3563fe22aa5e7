"""Sizes of the tiny model, in the words of the official metadata: what `export` writes into the files as `config`."""

from __future__ import annotations

from typing import Any

MODEL_VERSION = "2.0.0-tiny"
LATENT_CHANNELS = 128
HIDDEN = 96
"""Width of the text encoder, and of the contexts that the transformer is given."""
CONTEXT_TOKENS = 1024
"""Length of a context: the prompt's tokens, then learnable registers."""
REGISTERS = 128

DISTILLED_SIGMAS = (1.0, 0.99375, 0.9875, 0.98125, 0.975, 0.909375, 0.725, 0.421875, 0.0)
STAGE2_SIGMAS = DISTILLED_SIGMAS[5:]

TRANSFORMER: dict[str, Any] = {
    "_class_name": "AVTransformer3DModel",
    "_diffusers_version": "0.25.1",
    "activation_fn": "gelu-approximate",
    "attention_bias": True,
    "attention_type": "default",
    "cross_attention_norm": True,
    "double_self_attention": False,
    "dropout": 0.0,
    "norm_elementwise_affine": False,
    "norm_eps": 1e-06,
    "norm_num_groups": 32,
    "num_embeds_ada_norm": 1000,
    "num_vector_embeds": None,
    "only_cross_attention": False,
    "qk_norm": "rms_norm",
    "standardization_norm": "rms_norm",
    "upcast_attention": False,
    "use_linear_projection": False,
    "positional_embedding_type": "rope",
    "positional_embedding_theta": 10000.0,
    "positional_embedding_max_pos": [20, 2048, 2048],
    "timestep_scale_multiplier": 1000,
    "av_ca_timestep_scale_multiplier": 1000.0,
    "causal_temporal_positioning": True,
    "use_audio_video_cross_attention": True,
    "share_ff": False,
    "av_cross_ada_norm": True,
    "use_embeddings_connector": True,
    "use_middle_indices_grid": True,
    "rope_type": "split",
    "frequencies_precision": "float64",
    "in_channels": LATENT_CHANNELS,
    "out_channels": LATENT_CHANNELS,
    "num_layers": 5,
    "num_attention_heads": 7,
    "attention_head_dim": 32,
    "cross_attention_dim": 224,
    "caption_channels": HIDDEN,
    "connector_positional_embedding_max_pos": [4096],
    "connector_num_learnable_registers": REGISTERS,
    "connector_norm_output": True,
    "connector_num_attention_heads": 3,
    "connector_attention_head_dim": 32,
    "connector_num_layers": 2,
}

VAE: dict[str, Any] = {
    "_class_name": "CausalVideoAutoencoder",
    "dims": 3,
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": LATENT_CHANNELS,
    "scaling_factor": 1.0,
    "norm_layer": "pixel_norm",
    "patch_size": 4,
    "latent_log_var": "uniform",
    "use_quant_conv": False,
    "causal_decoder": False,
    "timestep_conditioning": False,
    "normalize_latent_channels": False,
    "encoder_blocks": [
        ["compress_space_res", {"multiplier": 1}],
        ["res_x", {"num_layers": 1}],
        ["compress_time_res", {"multiplier": 1}],
        ["compress_all_res", {"multiplier": 1}],
        ["res_x", {"num_layers": 1}],
        ["compress_all_res", {"multiplier": 1}],
    ],
    "decoder_blocks": [  # from the pixels to the latent
        ["res_x", {"num_layers": 1, "inject_noise": False}],
        ["compress_all", {"residual": True, "multiplier": 1}],
        ["res_x", {"num_layers": 3, "inject_noise": False}],
        ["compress_all", {"residual": True, "multiplier": 2}],
        ["res_x", {"num_layers": 2, "inject_noise": False}],
        ["compress_all", {"residual": True, "multiplier": 2}],
        ["res_x", {"num_layers": 1, "inject_noise": False}],
    ],
    "decoder_base_channels": 16,
}

SCHEDULER: dict[str, Any] = {
    "_class_name": "RectifiedFlowScheduler",
    "num_train_timesteps": 1000,
    "shifting": None,
    "base_resolution": None,
    "sampler": "LinearQuadratic",
}

CHECKPOINT: dict[str, Any] = {"transformer": TRANSFORMER, "vae": VAE, "scheduler": SCHEDULER}

SPATIAL_UPSAMPLER: dict[str, Any] = {
    "_class_name": "LatentUpsampler",
    "in_channels": LATENT_CHANNELS,
    "mid_channels": 64,
    "num_blocks_per_stage": 1,
    "dims": 2,
    "spatial_upsample": True,
    "temporal_upsample": False,
    "spatial_scale": 2.0,
    "rational_resampler": False,
}

TEMPORAL_UPSAMPLER: dict[str, Any] = {
    **SPATIAL_UPSAMPLER,
    "dims": 3,
    "spatial_upsample": False,
    "temporal_upsample": True,
    "spatial_scale": 1.0,
}

UPSAMPLERS = {"spatial": SPATIAL_UPSAMPLER, "temporal": TEMPORAL_UPSAMPLER}

GEMMA: dict[str, Any] = {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "attn_logit_softcapping": None,
    "final_logit_softcapping": None,
    "head_dim": 32,
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": HIDDEN,
    "initializer_range": 0.02,
    "intermediate_size": 192,
    "max_position_embeddings": 131072,
    "num_attention_heads": 3,
    "num_hidden_layers": 4,
    "num_key_value_heads": 1,
    "query_pre_attn_scalar": 32,
    "rms_norm_eps": 1e-6,
    "rope_local_base_freq": 10000,
    "rope_theta": 1000000,
    "sliding_window": 1024,
    "sliding_window_pattern": 6,
    "use_cache": True,
}
