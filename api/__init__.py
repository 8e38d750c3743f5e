"""MASUKA: the async service between one person and two GPU engines, ComfyUI and SimpleTuner."""
