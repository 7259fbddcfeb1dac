"""Puts numbers into a quorum queue, or takes them all out: `queue_of_numbers.py put|take ADDRESS [FROM TO]`."""

import sys
import time

import pika

QUEUE = "numbers"
SECONDS_MAX = 60


def channel_of(address):
    channel = pika.BlockingConnection(pika.ConnectionParameters(host=address, heartbeat=0)).channel()
    channel.queue_declare(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
    return channel


def put(address, first, last):
    """What is not confirmed, as while the queue has no leader, is put again."""
    number, end = first, time.monotonic() + SECONDS_MAX
    while number < last:
        try:
            channel = channel_of(address)
            channel.confirm_delivery()
            while number < last:
                body, kept = str(number).encode(), pika.BasicProperties(delivery_mode=2)
                channel.basic_publish("", QUEUE, body, kept, mandatory=True)
                number += 1
        except pika.exceptions.AMQPError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def take(address):
    channel, taken = channel_of(address), set()
    while True:
        method, _, body = channel.basic_get(QUEUE)
        if method is None:
            return sorted(taken)
        taken.add(int(body))
        channel.basic_ack(method.delivery_tag)


if sys.argv[1] == "put":
    put(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
else:
    print(*take(sys.argv[2]))
