"""Trains flux-tiny from drawn pictures. Runs under the trainer's Python, which has torch, never inside the service."""
