#!/usr/bin/env python3
"""A stand-in for the ngrok program, for tests: it speaks what pyngrok reads (log lines, local API), and is not ngrok.

Its public address is a port of this machine. The file `behaviour` beside it says what it does wrong, at any time.
"""

import http.client
import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

HERE = Path(__file__).resolve().parent
TOKEN = "ngrok-token-of-the-tests"
upstream = ""
public_url = ""


def behaviour() -> str:
    try:
        return (HERE / "behaviour").read_text()
    except FileNotFoundError:
        return ""


def say(line: str) -> None:
    sys.stdout.write(f"t=2026-11-22T12:00:00+0000 {line}\n")
    sys.stdout.flush()


class Public(BaseHTTPRequestHandler):
    """What ngrok's own servers do: hand requests on, or answer themselves."""

    def do_GET(self) -> None:
        with (HERE / "asked").open("a") as asked:
            asked.write(f"{self.path} {self.headers.get('ngrok-skip-browser-warning')}\n")
        if behaviour() in ("deaf", "ERR_NGROK_727"):
            code = "ERR_NGROK_3200" if behaviour() == "deaf" else behaviour()
            self.reply(404, code.encode(), {"ngrok-error-code": code})
            return
        there = http.client.HTTPConnection(urlsplit(upstream).netloc, timeout=20)
        forwarded = {"X-Forwarded-For": "198.51.100.7", "X-Forwarded-Proto": "https"}
        there.request("GET", self.path, headers={**dict(self.headers), **forwarded})
        answer = there.getresponse()
        self.reply(answer.status, answer.read(), {"Content-Type": answer.headers.get("Content-Type", "text/plain")})

    def reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Local(Public):
    """The agent's own API."""

    def do_GET(self) -> None:
        while behaviour() == "hang":
            time.sleep(0.1)
        known = [] if behaviour() == "closed" else [{"name": "masuka", "url": public_url}]
        self.reply(200, json.dumps({"endpoints": known}).encode(), {"Content-Type": "application/json"})

    def do_POST(self) -> None:
        global upstream
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if behaviour() == "ERR_NGROK_334":
            err = {"msg": "failed to start endpoint", "details": {"err": "already online\r\n\r\nERR_NGROK_334\r\n"}}
            self.reply(502, json.dumps(err).encode(), {"Content-Type": "application/json"})
            return
        upstream = body["upstream"]["url"]
        found = {"name": body["name"], "url": public_url, "upstream": body["upstream"]}
        self.reply(201, json.dumps(found).encode(), {"Content-Type": "application/json"})


def serve(handler: type[BaseHTTPRequestHandler]) -> int:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return int(server.server_address[1])


def main() -> int:
    global public_url
    public_url = f"http://127.0.0.1:{serve(Public)}"
    assert sys.argv[1:5] == ["start", "--none", "--log", "stdout"], sys.argv
    config = json.loads(Path(sys.argv[sys.argv.index("--config") + 1]).read_text())
    given = config["agent"]["authtoken"]
    say('lvl=info msg="this is a stand-in for tests, not ngrok"')
    if behaviour() == "silent":
        time.sleep(3600)
    say(f'lvl=info msg="starting web service" obj=web addr=127.0.0.1:{serve(Local)} allow_hosts=[]')
    if given != TOKEN:
        err = f"authentication failed: Your authtoken: {given}\\r\\n\\r\\nERR_NGROK_105\\r\\n"
        say(f'lvl=eror msg="failed to auth" obj=tunnels.session err="{err}"')
        say(f'lvl=crit msg="command failed" err="{err}"')
        return 1
    if behaviour() == "ERR_NGROK_108":
        say('lvl=eror msg="failed to auth" err="Your account is limited to 1 simultaneous sessions. ERR_NGROK_108"')
        return 1
    while behaviour() == "no network":
        say('lvl=eror msg="failed to reconnect session" err="dial tcp: lookup connect.ngrok-agent.com: no such host"')
        time.sleep(0.2)
    say('lvl=info msg="client session established" obj=tunnels.session')
    say('lvl=info msg="tunnel session started" obj=tunnels.session')
    warned = ""
    while behaviour() != "drop":
        if behaviour() == "deaf" != warned:
            warned = "deaf"
            say('lvl=warn msg="heartbeat timeout, terminating session" obj=tunnels.session')
        time.sleep(0.05)
    (HERE / "behaviour").unlink(missing_ok=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
