"""Follows a stream with httpx-sse, and comes back as its documentation says one should: with the id and
after the pause that the stream gave. Prints a line of JSON for each connection, event and error.

    events.py URL

It ends when it is told that the stream is over (204), or when its standard input ends.
"""

import json
import os
import sys
import threading
import time

import httpx
from httpx_sse import connect_sse


def say(**line):
    print(json.dumps({"at": round(time.monotonic() * 1000), **line}), flush=True)


def wait_for_end():
    sys.stdin.read()
    os._exit(0)


def follow(url):
    last_id, pause = None, 3.0
    while True:
        headers = {} if last_id is None else {"Last-Event-ID": last_id}
        say(connects=last_id)
        try:
            with httpx.Client(timeout=60, trust_env=False) as client:
                with connect_sse(client, "GET", url, headers=headers) as source:
                    if source.response.status_code == 204:
                        return say(error=204, closed=True)
                    source.response.raise_for_status()
                    for event in source.iter_sse():
                        if event.retry is not None:
                            pause = event.retry / 1000
                        alone = event.id and not event.data and event.id != last_id
                        last_id = event.id or last_id
                        # The standard fires nothing for a block without data; httpx-sse does.
                        if event.data:
                            say(event=event.event, data=json.loads(event.data), id=event.id)
                        elif alone:
                            say(alone=event.id)
            say(error=None, closed=False)
        except httpx.TransportError:
            say(error=None, closed=False)
        time.sleep(pause)


threading.Thread(target=wait_for_end, daemon=True).start()
follow(sys.argv[1])
