"""A stand-in, for the sake of `google.colab`."""
