"""ComfyUI as MASUKA uses it: a child process, its HTTP and websocket interface, and what its answers mean."""
