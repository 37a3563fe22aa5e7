"""Sampling: from noise, a prompt's context and a transformer to a latent.

A stage reads like this (`latent` and `given` are [1, channels, frames, height, width]):

    sigmas = ltx2_sigmas(15)                                                    schedules
    given = mx.array(noise(seed, "stage1", shape))                              noise
    predict = make_predictor(config, top, blocks, positive, negative,           predictor
                             video_positions(grid, fps), Guidance(cfg=5.0), dtype)
    start = to_tokens(noised(clean, given, float(sigmas[0]), dtype))            latents, noise
    tokens = denoise(predict, start, sigmas, on_step=checkpoint)                denoise
    latent = from_tokens(tokens, grid)                                          latents
"""
