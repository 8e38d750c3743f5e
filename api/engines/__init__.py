"""Installs ComfyUI, SimpleTuner and base models, and says where they are."""
