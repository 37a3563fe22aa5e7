"""How running out of memory and failures of the GPU sound, in the words of MLX, Metal, CUDA and the C library.

The worker asks this about an exception, the orchestrator about the last lines of the log of a worker that left no
word. It lives in `weights` because both sides may import from here. The texts are other people's and may change:
`failure_kind` is a best effort, and None only means that nothing was recognised. Imports nothing of ours.

Where memory runs out at a limit of the process's own, many libraries name another reason or none: a thread that
cannot start is EAGAIN, a codec that cannot is an "external library". Such words mean memory only with that evidence.
"""

from __future__ import annotations

import re
from typing import Literal

FailureKind = Literal["memory", "gpu"]

# Metal reports memory as a failed command buffer too, so memory is looked for first.
_MEMORY = re.compile(
    r"""
      \[(?:metal::|cuda::)?malloc(?:_or_wait)?\]\s       # MLX: Unable to, Attempting to, Resource limit
    | \bout[ ]of[ ](?:\w+[ ])?memory\b                    # CUDA, Metal, the kernel
    | \bInsufficient[ ]Memory\b
    | kIOGPUCommandBufferCallbackErrorOutOfMemory
    | cudaErrorMemoryAllocation | CUDA_ERROR_OUT_OF_MEMORY | (?:CUBLAS|CUDNN)_STATUS_ALLOC_FAILED
    | \bstd::bad_alloc\b
    | \bCannot[ ]allocate[ ]memory\b(?![ ]in[ ]static[ ]TLS)    # strerror(ENOMEM); the other is the loader's own
    | ^\s*(?:numpy\.\S*)?(?:_Array)?MemoryError\b
    | \bMemory[ ]allocation[ ]still[ ]failed\b            # OpenBLAS
    | \bOpenBLAS:[ ]malloc[ ]failed\b
    """,
    re.VERBOSE | re.IGNORECASE | re.MULTILINE,
)
_STARVED = re.compile(
    r"""
      \bResource[ ]temporarily[ ]unavailable\b           # strerror(EAGAIN): std::thread, FFmpeg, OpenBLAS
    | \bcan't[ ]start[ ]new[ ]thread\b                   # Python
    | \bterminate[ ]called[ ]without[ ]an[ ]active[ ]exception\b    # C++, when only some threads could start
    | \bfailed[ ]to[ ]map[ ]segment[ ]from[ ]shared[ ]object\b      # the loader
    | \bGeneric[ ]error[ ]in[ ]an[ ]external[ ]library\b  # FFmpeg, of an encoder that could not open
    | \[read\][ ]Unable[ ]to[ ]read[ ]from[ ]file\b       # MLX, into a buffer that it did not get
    | \berror[ ]return[ ]without[ ]exception[ ]set\b      # Python
    """,
    re.VERBOSE | re.IGNORECASE,
)
_GPU = re.compile(
    r"""
      kIOGPUCommandBufferCallbackError\w+
    | \[METAL\][ ]Command[ ]buffer[ ]execution[ ]failed
    | \bCommand[ ]buffer[ ](?:execution[ ])?(?:failed|was[ ]aborted)
    | \bCaused[ ]GPU[ ](?:Timeout|Hang|Address[ ]Fault)[ ]Error
    | \bImpacting[ ]Interactivity\b
    | cudaErrorLaunch\w+ | cudaErrorIllegal\w+ | cudaErrorECCUncorrectable
    | \bthe[ ]launch[ ]timed[ ]out\b
    | \bunspecified[ ]launch[ ]failure\b
    | \ban[ ]illegal[ ](?:memory[ ]access|instruction)[ ]was[ ]encountered\b
    | \buncorrectable[ ]ECC[ ]error\b
    """,
    re.VERBOSE | re.IGNORECASE,
)


def failure_kind(text: str, *, starved: bool = False) -> FailureKind | None:
    """ "memory" for a failed allocation, "gpu" for a watchdog or command-buffer failure, None for anything else.

    starved: the process was at a limit of its own memory (`weights.own_limits`).
    """
    if _MEMORY.search(text) or (starved and _STARVED.search(text)):
        return "memory"
    if _GPU.search(text):
        return "gpu"
    return None
