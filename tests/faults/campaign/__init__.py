"""The fault campaign: real load on the real service, one fault after the other, and a judge at the end."""
