"""Downloads from the open web, on behalf of the owner and never into his network."""
