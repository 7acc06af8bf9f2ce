"""Deploys an app with nothing but a NATS client, and follows what comes of it.

usage: NATS_URL=... NATS_USER=... NATS_PASSWORD=... python deploy.py app.json
The file holds {"app": {...}}, as `muster.v1.cmd.app.deploy` takes it.
"""

import asyncio
import json
import os
import sys
import uuid

import nats


async def main(path):
    user = os.environ.get("NATS_USER", "dev")
    bus = await nats.connect(
        os.environ.get("NATS_URL", "nats://127.0.0.1:4222"),
        user=user,
        password=os.environ.get("NATS_PASSWORD"),
        inbox_prefix=f"_INBOX.{user}".encode(),
    )
    command = uuid.uuid4().hex
    events = await bus.subscribe("muster.v1.evt.main.>")
    with open(path, "rb") as app:
        await bus.jetstream().publish(
            "muster.v1.cmd.app.deploy", app.read(), headers={"Nats-Msg-Id": command}
        )
    async for message in events.messages:
        event = json.loads(message.data)
        if event.get("correlation") != command:
            continue
        print(event["position"], message.subject.split(".")[-1], json.dumps(event["data"])[:120], flush=True)
        if event["type"] in ("AppConverged", "AppStalled", "CommandRejected"):
            return 0 if event["type"] == "AppConverged" else 1


sys.exit(asyncio.run(asyncio.wait_for(main(sys.argv[1]), 60)))
