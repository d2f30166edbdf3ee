"""A plain member of a consumer group, by KIP-848: prints a line of JSON for each thing that happens.

member.py BOOTSTRAP GROUP TOPIC

Each record is committed as soon as it has been printed. A line on standard input, or its end, makes
the member commit and leave.
"""

import json
import sys
import threading

from confluent_kafka import Consumer


def say(**what):
    print(json.dumps(what), flush=True)


def places(partitions):
    return [partition.partition for partition in partitions]


def main():
    bootstrap, group, topic = sys.argv[1:]
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "group.protocol": "consumer",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    told = threading.Event()

    def wait_for_the_word():
        sys.stdin.readline()
        told.set()

    threading.Thread(target=wait_for_the_word, daemon=True).start()
    consumer.subscribe(
        [topic],
        on_assign=lambda _, partitions: say(assigned=places(partitions)),
        on_revoke=lambda _, partitions: say(revoked=places(partitions)),
    )
    while not told.is_set():
        message = consumer.poll(0.2)
        if message is None:
            continue
        if message.error():
            say(error=str(message.error()))
            continue
        say(partition=message.partition(), offset=message.offset())
        consumer.commit(message=message, asynchronous=False)
    consumer.close()
    say(closed=True)


main()
