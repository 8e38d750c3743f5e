"""The ngrok agent: its program, its process, and what it says when it refuses.

pyngrok fetches the program, reads its log lines and asks its local API. The process is started here, because pyngrok
puts the token on its command line, where every user of the machine reads it, and waits for its first line for ever.
"""
