"""The commands of `masuka`, by what they are for."""
