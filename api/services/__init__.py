"""Use cases: they take a session and what they need, flush, and leave the commit to the edge."""
