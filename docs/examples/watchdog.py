"""An extension of the cluster: leaves a note on every replica whose run ended badly.

usage: NATS_URL=... NATS_USER=... NATS_PASSWORD=... python watchdog.py
"""

import asyncio
import json
import os

import nats


async def main():
    user = os.environ.get("NATS_USER", "dev")
    bus = await nats.connect(
        os.environ.get("NATS_URL", "nats://127.0.0.1:4222"),
        user=user,
        password=os.environ.get("NATS_PASSWORD"),
        inbox_prefix=f"_INBOX.{user}".encode(),
    )
    events = await bus.subscribe("muster.v1.evt.*.replica.*.run-ended")
    print("watching", flush=True)
    async for message in events.messages:
        event = json.loads(message.data)
        replica, evidence = event["data"]["replica"], event["data"]["evidence"]
        if evidence.get("exit_code") == 0:
            continue
        note = {"object": f"replica/{replica}", "text": f"look at this: {evidence['cause']}"}
        # The id follows from the event: to leave the note twice is to leave it once.
        headers = {"Nats-Msg-Id": f"note-{event['id']}", "Muster-Actor": "watchdog"}
        await bus.jetstream().publish("muster.v1.cmd.note.add", json.dumps(note).encode(), headers=headers)


asyncio.run(main())
