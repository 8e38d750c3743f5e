"""What the notebook on Colab needs of us.

The notebook's own Python imports it, and that one has none of our packages: only the standard library, and of `api`
what needs no more, is imported here (tests/colab proves it). `facts` alone is run by the service's own Python.
"""
