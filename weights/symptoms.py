"""How running out of memory and failures of the GPU sound, in the words of MLX, Metal, CUDA and the C library.

The worker asks this about an exception, the orchestrator about the last lines of the log of a worker that left no
word. It lives in `weights` because both sides may import from here. The texts are other people's and may change:
`failure_kind` is a best effort, and None only means that nothing was recognised. Imports nothing of ours.
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
    | \bCannot[ ]allocate[ ]memory\b                      # strerror(ENOMEM)
    | ^\s*(?:numpy\.\S*)?(?:_Array)?MemoryError\b
    | \bMemory[ ]allocation[ ]still[ ]failed\b            # OpenBLAS
    """,
    re.VERBOSE | re.IGNORECASE | re.MULTILINE,
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


def failure_kind(text: str) -> FailureKind | None:
    """ "memory" for a failed allocation, "gpu" for a watchdog or command-buffer failure, None for anything else."""
    if _MEMORY.search(text):
        return "memory"
    if _GPU.search(text):
        return "gpu"
    return None
