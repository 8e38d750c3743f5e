# mypy: ignore-errors
"""A custom node that does to ComfyUI, from inside and on request, what it will not do by itself."""

import os
import time

import comfy.model_management
import torch
from server import PromptServer


class TestFault:
    """Passes a latent on, after one fault. `nonce` keeps ComfyUI's cache from answering."""

    RETURN_TYPES = ("LATENT",)
    FUNCTION = "run"
    CATEGORY = "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "latent": ("LATENT",),
                "fault": (["sleep", "hang", "out_of_memory", "fail", "exit", "end_early", "deaf"],),
                "seconds": ("FLOAT", {"default": 0.0}),
                "nonce": ("STRING", {"default": ""}),
            }
        }

    def run(self, latent, fault, seconds, nonce):
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

    def fail(self, seconds):
        raise ValueError("boom")

    def exit(self, seconds):
        """As the kernel does when memory runs out."""
        os._exit(137)

    def end_early(self, seconds):
        """Tells the last frame of the prompt while it still runs."""
        server = PromptServer.instance
        server.send_sync("executing", {"node": None, "prompt_id": server.last_prompt_id}, server.client_id)
        time.sleep(seconds)

    def deaf(self, seconds):
        """HTTP and websocket stand still while the prompt goes on."""
        PromptServer.instance.loop.call_soon_threadsafe(time.sleep, seconds)


NODE_CLASS_MAPPINGS = {"TestFault": TestFault}
