"""Drawn pictures that show whether a LoRA learns: what flux-tiny was trained on, a new character, how to measure."""
