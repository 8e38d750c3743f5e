"""On the path of a test's kernel: what Colab's own Python has, and no other."""
