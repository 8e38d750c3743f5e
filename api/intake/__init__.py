"""Uploaded files become pictures that can be trained on: file work only, no database and no HTTP."""
