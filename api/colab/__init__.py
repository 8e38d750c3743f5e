"""What a notebook on Colab needs of us."""
