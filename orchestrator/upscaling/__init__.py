"""`upscale-temporal` and `upscale-spatial`: a finished video through the VAE and one of the latent upsamplers.

facts      what the file is (a process of its own decodes it once)
words      what a person has to know of it
recipe     every setting, complete
origin     the latent of a video that we made ourselves
chunks     which frames are computed together
geometry   sizes and times of the new video
memory     chunks and tiles for a budget, and what workers take
relay      stages and keys: encode -> temporal | spatial -> decode -> join
prepare    all of that, before anything starts
run        carries it out
"""
