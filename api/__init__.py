"""MASUKA: the async service between one person and two GPU engines, ComfyUI and SimpleTuner."""

__version__ = "0.1.0"
