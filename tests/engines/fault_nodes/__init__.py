# mypy: ignore-errors
"""A custom node that does to ComfyUI, from inside and on request, what it will not do by itself."""

import os
import signal
import sys
import time
from pathlib import Path

import comfy.model_management
import nodes
import torch
from server import PromptServer

FAULTS = [
    "sleep",
    "hang",
    "out_of_memory",
    "out_of_memory_unless_light",
    "out_of_memory_decoding",
    "fail",
    "exit",
    "frozen",
    "end_early",
    "deaf",
]


class TestFault:
    """Passes a latent on, after one fault.

    `nonce` keeps ComfyUI's cache from answering. `once` names a file that remembers, for every ComfyUI, that the fault
    has been met; empty: it is met every time.
    """

    RETURN_TYPES = ("LATENT",)
    FUNCTION = "run"
    CATEGORY = "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "latent": ("LATENT",),
                "fault": (FAULTS,),
                "seconds": ("FLOAT", {"default": 0.0}),
                "nonce": ("STRING", {"default": ""}),
                "once": ("STRING", {"default": ""}),
            }
        }

    def run(self, latent, fault, seconds, nonce, once):
        if not once or not Path(once).exists():
            if once:
                Path(once).touch()
            getattr(self, fault)(seconds)
        return (latent,)

    def sleep(self, seconds):
        """Slow, and stops when it is interrupted."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            comfy.model_management.throw_exception_if_processing_interrupted()
            time.sleep(0.02)

    def hang(self, seconds):
        """Slow, and cannot be interrupted."""
        time.sleep(seconds)

    def out_of_memory(self, seconds):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    def out_of_memory_unless_light(self, seconds):
        if "--cache-none" not in sys.argv:
            self.out_of_memory(seconds)

    def out_of_memory_decoding(self, seconds):
        """The memory is too small for the next whole picture."""
        whole = nodes.VAEDecode.decode

        def decode(self, vae, samples):
            nodes.VAEDecode.decode = whole
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

        nodes.VAEDecode.decode = decode

    def fail(self, seconds):
        raise ValueError("boom")

    def exit(self, seconds):
        os._exit(3)

    def frozen(self, seconds):
        """Whole, in the midst of it."""
        os.kill(os.getpid(), signal.SIGSTOP)

    def end_early(self, seconds):
        """Tells the last frame of the prompt while it still runs."""
        server = PromptServer.instance
        server.send_sync("executing", {"node": None, "prompt_id": server.last_prompt_id}, server.client_id)
        time.sleep(seconds)

    def deaf(self, seconds):
        """HTTP and websocket stand still while the prompt goes on."""
        PromptServer.instance.loop.call_soon_threadsafe(time.sleep, seconds)


NODE_CLASS_MAPPINGS = {"TestFault": TestFault}
