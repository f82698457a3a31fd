"""A process that receives webhooks: prints its port, then a line for each: `path alert nanoseconds`.

`/hung` never answers.
"""

from __future__ import annotations

import asyncio
import sys
import time

import uvloop

OK = b"HTTP/1.1 204 No Content\r\n\r\n"


async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        came = time.time_ns()
        path, id_ = head.split(b" ", 2)[1].decode(), head.partition(b"webhook-id: ")[2].partition(b"\r\n")[0].decode()
        if path == "/hung":
            await reader.read()
        sys.stdout.write(f"{path} {id_.removeprefix('msg_')} {came}\n")
        writer.write(OK)
        await writer.drain()
    except (OSError, asyncio.IncompleteReadError):
        return
    finally:
        writer.close()


async def main() -> None:
    server = await asyncio.start_server(receive, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    while True:
        await asyncio.sleep(0.2)
        sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(main())
