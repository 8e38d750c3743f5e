"""A public address for a service on loopback, by ngrok."""
