"""HTTP only: one file per noun, no rules."""
