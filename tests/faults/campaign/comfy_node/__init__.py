# mypy: ignore-errors
"""Does to the real ComfyUI, from inside and when asked over HTTP, what it will not do by itself.

POST /masuka_fault/out_of_memory     the next sampling that begins
POST /masuka_fault/drop_sockets      every websocket ends
POST /masuka_fault/silence_sockets   every websocket stays open, and tells nothing any more
"""

import nodes
import torch
from aiohttp import web
from server import PromptServer

SERVER = PromptServer.instance
_sample = nodes.common_ksampler
_out_of_memory = False


def _faulty_sample(*args, **kwargs):
    global _out_of_memory
    if _out_of_memory:
        _out_of_memory = False
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
    return _sample(*args, **kwargs)


class _Silence:
    """Takes the place of a websocket among those that are told."""

    async def send_str(self, *args, **kwargs):
        """Lost on the way."""

    send_bytes = send_json = send_str


@SERVER.routes.post("/masuka_fault/{fault}")
async def do(request):
    global _out_of_memory
    fault = request.match_info["fault"]
    if fault == "out_of_memory":
        _out_of_memory = True
    elif fault == "drop_sockets":
        for socket in list(SERVER.sockets.values()):
            socket._req.transport.abort()
    elif fault == "silence_sockets":
        SERVER.sockets.update(dict.fromkeys(SERVER.sockets, _Silence()))
    else:
        raise web.HTTPNotFound
    return web.json_response({})


nodes.common_ksampler = _faulty_sample
NODE_CLASS_MAPPINGS = {}
