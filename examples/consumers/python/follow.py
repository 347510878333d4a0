"""Follows the topic callchain.events and prints what happens to calls, one line an event.

    pip install confluent-kafka
    python follow.py --state positions.json
    python follow.py --state positions.json --call 01a20bc9-8d89-7d54-ae67-ad4a145a3494

It shows what a reader of the topic has to do: keep its own positions, drop what comes again, notice what is missing. The file of positions
has the same form as that of the example in Go: one can go on where the other ended. docs/asyncapi.yaml describes the topic.
"""

import argparse
import json
import os
import signal
import sys

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

TERMINAL = {"Succeeded", "Failed", "Expired", "Cancelled", "Rejected"}
SAVE_EVERY = 100  # events that are handled again after a crash, at most
WAIT = 10  # seconds for an answer of the brokers


class Positions:
    """How far each partition was read: the offset to read next, and the last event's seq.

    A program that writes what it learns into a database keeps them there, in the same transaction, and so makes every event count once.
    """

    def __init__(self, file):
        self.file = file
        self.unsaved = 0
        try:
            with open(file, encoding="utf-8") as f:
                self.of = {int(n): p for n, p in json.load(f).items()}
        except FileNotFoundError:
            self.of = {}  # the beginning

    def moved(self, partition, offset, seq):
        self.of[partition] = {"offset": offset, "seq": seq}
        self.unsaved += 1
        if self.unsaved >= SAVE_EVERY:
            self.save()

    def save(self):
        """Replaces the file at once: a crash leaves the old positions or the new ones."""
        with open(self.file + ".new", "w", encoding="utf-8") as f:
            json.dump(self.of, f)
        os.replace(self.file + ".new", self.file)
        self.unsaved = 0


def begin(consumer, topic, positions):
    """Begins all partitions where the last run ended; gives the newest offset of those that are behind it."""
    found = consumer.list_topics(topic, timeout=WAIT).topics[topic]
    if found.error is not None:
        raise SystemExit(f"consumer: topic {topic}: {found.error}")
    behind, assigned = {}, []
    for n in sorted(found.partitions):
        oldest, newest = consumer.get_watermark_offsets(TopicPartition(topic, n), timeout=WAIT)
        offset = positions.of[n]["offset"] if n in positions.of else oldest
        if not oldest <= offset <= newest:
            raise SystemExit(
                f"consumer: partition {n} of {topic} has the offsets {oldest} to {newest}, but {positions.file} stands at {offset}: "
                "the topic was trimmed or made anew; remove the file to begin with what is there"
            )
        if offset < newest:
            behind[n] = newest
        assigned.append(TopicPartition(topic, n, offset))
    consumer.assign(assigned)
    return behind


def call_of(event):
    """The id of the call that an event is of, None if it is of no call: the stream of a call is rpc/<tenant>/<call>."""
    parts = event["stream"].split("/")
    return parts[2] if len(parts) == 3 and parts[0] == "rpc" else None


def show(event, wanted):
    """Prints an event of a call; True when it ends the call that is wanted."""
    call = call_of(event)
    if call is None or wanted not in (None, call):
        return False
    data = json.dumps(event["data"], separators=(",", ":"), ensure_ascii=False)
    print(event["occurred"], call, event["type"], event["actor"], event["cause"], data, sep="  ", flush=True)
    return wanted is not None and event["type"] in TERMINAL


def follow(consumer, topic, positions, wanted, once):
    behind = begin(consumer, topic, positions)
    while behind or not once:
        message = consumer.poll(1)
        if message is None:
            continue
        if message.error() is not None:
            if message.error().fatal() or message.error().code() == KafkaError.OFFSET_OUT_OF_RANGE:
                raise KafkaException(message.error())
            print("consumer:", message.error(), file=sys.stderr)  # the client tries again by itself
            continue
        n, event = message.partition(), json.loads(message.value())
        last = positions.of[n]["seq"] if n in positions.of else None
        if last is not None and event["seq"] > last + 1:
            raise SystemExit(f"consumer: partition {n}: event {event['seq']} follows {last}: events in between are missing")
        news = last is None or event["seq"] > last  # the server publishes at least once
        done = news and show(event, wanted)
        positions.moved(n, message.offset() + 1, event["seq"] if news else last)
        if message.offset() + 1 >= behind.get(n, 0):
            behind.pop(n, None)
        if done:
            return


def main():
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--brokers", default="127.0.0.1:9092", help="host:port of Kafka's brokers, with commas between them")
    flags.add_argument("--prefix", default="", help="the server's bus.kafka.prefix")
    flags.add_argument("--state", default="positions.json", help="file that keeps how far this program has read")
    flags.add_argument("--call", help="id of a call: print only its events, and end with it")
    flags.add_argument("--once", action="store_true", help="end when what is there now was read")
    given = flags.parse_args()

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    positions = Positions(given.state)
    consumer = Consumer({
        "bootstrap.servers": given.brokers,
        "client.id": "callchain-example",
        "group.id": "unused",  # the library wants one; the positions are our own
        "enable.auto.commit": False,
        "auto.offset.reset": "error",
    })
    try:
        follow(consumer, given.prefix + "callchain.events", positions, given.call, given.once)
    except KeyboardInterrupt:
        pass  # that is how it ends
    except KafkaException as e:
        raise SystemExit(f"consumer: {e}") from e
    finally:
        positions.save()
        consumer.close()


if __name__ == "__main__":
    main()
