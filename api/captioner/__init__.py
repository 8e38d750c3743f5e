"""The captioner: a program of SimpleTuner's Python that describes pictures, and how the service talks with it."""
