"""What `websockets` can send and browsers cannot: messages in pieces, pings, wrong bytes.

Its argument is the URL; what it saw of each comes out as one line of JSON.
"""

import asyncio
import json
import sys

from websockets import ConnectionClosed, connect

TEXT = "näive ☃ 𝄞" * 40


def open_session():
    # No pings of its own: those that it answers are the gateway's.
    return connect(sys.argv[1], subprotocols=["tidegate.v1"], ping_interval=None)


async def answer(socket, id):
    while True:
        frame = json.loads(await asyncio.wait_for(socket.recv(), 60))
        if frame.get("id") == id:
            return frame


async def ending(send):
    """The code and reason that a session ends with after this was sent."""
    async with open_session() as socket:
        try:
            await send(socket)
            async with asyncio.timeout(60):
                async for _ in socket:
                    pass
        except ConnectionClosed:
            pass
        await socket.wait_closed()
        return [socket.close_code, socket.close_reason]


def ping_frame(id):
    return json.dumps({"type": "ping", "id": id, "t": TEXT}, ensure_ascii=False).encode()


async def main():
    seen = {}
    async with open_session() as socket:
        seen["subprotocol"] = socket.subprotocol
        seen["extensions"] = [extension.name for extension in socket.protocol.extensions]

        # A byte at a time, so that characters are cut too.
        text = ping_frame("bytes")
        await socket.send((text[n : n + 1] for n in range(len(text))), text=True)
        seen["bytes"] = await answer(socket, "bytes")

        text = ping_frame("empty_pieces")
        await socket.send([b"", text[:10], b"", text[10:], b""], text=True)
        seen["empty_pieces"] = await answer(socket, "empty_pieces")

        text = ping_frame("ping_between_pieces")

        async def with_a_ping():
            yield text[:10]
            await socket.ping(b"between")
            yield text[10:]

        await socket.send(with_a_ping(), text=True)
        seen["ping_between_pieces"] = await answer(socket, "ping_between_pieces")

        pong = await socket.ping(b"x" * 125)
        seen["ping"] = await asyncio.wait_for(pong, 60) is not None

        # Longer than the gateway waits for somebody who answers no pings.
        await asyncio.sleep(8)
        await socket.send(json.dumps({"type": "ping", "id": "still here"}))
        seen["after_silence"] = await answer(socket, "still here")

    seen["binary"] = await ending(lambda socket: socket.send(b'{"type":"ping"}'))
    pieces = [b" " * 1000] * 100
    seen["pieces_too_large"] = await ending(lambda socket: socket.send(pieces, text=True))
    seen["no_utf8"] = await ending(lambda socket: socket.send(b'{"type":"\xff"}', text=True))
    seen["bye"] = await ending(lambda socket: socket.send('{"type":"bye"}'))
    print(json.dumps(seen))


asyncio.run(main())
