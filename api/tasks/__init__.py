"""What workers do: the dispatcher that claims jobs, and one runner per kind of job."""
