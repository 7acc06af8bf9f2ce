"""Every event of a cluster, in order and once, for one who is away now and then.

Events are numbered from 1 without a gap, and event-log keeps all of them for ever; what arrives live
is only what is new. So whoever remembers the last position it has dealt with never misses anything:
what is missing is asked of event-log, however long it has been.

What happened before we came is history: to be known, not to be acted on.
"""

import asyncio
import json

import nats

# How long nothing may arrive before we look whether something did not.
QUIET_SECONDS = 5


async def ask(bus, verb, **request):
    answer = await bus.request(f"muster.v1.api.{verb}", json.dumps(request).encode(), timeout=5)
    if "Nats-Service-Error" in (answer.headers or {}):
        raise RuntimeError(f"{verb}: {answer.headers['Nats-Service-Error']}")
    return json.loads(answer.data)


async def pages(bus, first, last):
    """What the log holds from one position to another. A page may be empty and still have a next."""
    while first is not None and first <= last:
        page = await ask(bus, "log", **{"from": first, "to": last})
        for event in page["events"]:
            yield event
        first = page.get("next")


async def events(bus, position):
    """Each event after a position, and whether it is history."""
    # Listen first: what happens while we read history waits here.
    live = await bus.subscribe("muster.v1.evt.>")
    began = (await ask(bus, "head"))["place"]["position"]
    async for event in pages(bus, position + 1, began):
        position = event["position"]
        yield event, True
    while True:
        try:
            arrived = json.loads((await live.next_msg(timeout=QUIET_SECONDS)).data)["position"]
        except (nats.errors.TimeoutError, ValueError, KeyError, TypeError):
            # Nothing came, or what somebody published by hand: the log says what stands there.
            arrived = (await ask(bus, "head"))["place"]["position"]
        # What was seen already is passed over, and what did not arrive comes from the log. So does
        # what did arrive: only the log's word counts. It may say it a moment later than the bus.
        for _ in range(20):
            async for event in pages(bus, position + 1, arrived):
                position = event["position"]
                yield event, False
            if position >= arrived:
                break
            await asyncio.sleep(0.05)
