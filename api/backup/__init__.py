"""Backups: the rows of the database and the files that they name, in another place."""
