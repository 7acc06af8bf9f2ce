"""An extension of the cluster: leaves a note on every replica whose run ended badly.

usage: NATS_URL=... NATS_USER=... NATS_PASSWORD=... python watchdog.py [POSITION_FILE]

With a file, it remembers there how far it has read. It never misses an event then, and leaves no
notes about what happened while it was away.
"""

import asyncio
import json
import os
import pathlib
import sys

import nats

import history


async def bark(bus, event):
    replica, evidence = event["data"]["replica"], event["data"]["evidence"]
    if evidence.get("exit_code") == 0:
        return
    note = {"object": f"replica/{replica}", "text": f"look at this: {evidence['cause']}"}
    # The id follows from the event: to leave the note twice is to leave it once.
    headers = {"Nats-Msg-Id": f"note-{event['id']}", "Muster-Actor": "watchdog"}
    await bus.jetstream().publish("muster.v1.cmd.note.add", json.dumps(note).encode(), headers=headers)


async def main(kept):
    user = os.environ.get("NATS_USER", "dev")
    bus = await nats.connect(
        os.environ.get("NATS_URL", "nats://127.0.0.1:4222"),
        user=user,
        password=os.environ.get("NATS_PASSWORD"),
        inbox_prefix=f"_INBOX.{user}".encode(),
    )
    # Who begins today wants nothing of what was before.
    if kept and kept.exists():
        position = int(kept.read_text())
    else:
        position = (await history.ask(bus, "head"))["place"]["position"]
    print("watching", flush=True)
    async for event, old in history.events(bus, position):
        if event["type"] == "RunEnded":
            print(event["position"], event["data"]["replica"], "history" if old else "live", flush=True)
            if not old:
                await bark(bus, event)
        if kept:
            # After the deed: a crash between the two does it again, which is doing it once.
            kept.write_text(str(event["position"]))


asyncio.run(main(pathlib.Path(sys.argv[1]) if sys.argv[1:] else None))
