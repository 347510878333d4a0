"""What the example devices have in common, on paho-mqtt: one connection to the server, calls that come in and are answered, calls that
go out, telemetry and attributes. It knows nothing of the server but ThingsBoard's topics.

    pip install paho-mqtt
"""
import collections
import json
import signal
import sys
import threading

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

REQUESTS = "v1/devices/me/rpc/request/"  # + id: a call, in both directions
RESPONSES = "v1/devices/me/rpc/response/"  # + id: its answer
TELEMETRY = "v1/devices/me/telemetry"
ATTRIBUTES = "v1/devices/me/attributes"

PATIENCE = 30  # seconds, for the server's acknowledgements and answers
REMEMBERED = 64  # answers that are kept for a call that comes again


class Device:
    """A connection that comes back by itself.

    methods: name -> function of the params that gives the answer; a ValueError becomes {"error": text}.
    attributes: gets the shared attributes that were changed at the server, or None.
    """

    def __init__(self, server, token, methods, attributes=None):
        self.methods, self.attributes = methods, attributes
        self.answers = collections.OrderedDict()  # of the last calls, by id
        self.last_id, self.pending, self.lock = 0, {}, threading.Lock()
        self.ready, self.refused = threading.Event(), None
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="device-" + token)
        self.client.username_pw_set(token)
        self.client.reconnect_delay_set(1, 5)
        self.client.on_connect = self._connected
        self.client.on_subscribe = self._subscribed
        self.client.on_message = self._received
        self.server = server

    def connect(self):
        """Returns when the device is subscribed: a call that is made from then on reaches it."""
        host, _, port = self.server.rpartition(":")
        self.client.connect(host, int(port))
        self.client.loop_start()
        if not self.ready.wait(PATIENCE):
            raise ConnectionError("the server does not answer")
        if self.refused:
            raise ConnectionError(self.refused)

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()

    def report(self, values):
        """Sends telemetry and returns when the server has stored it."""
        self.client.publish(TELEMETRY, json.dumps(values), qos=1).wait_for_publish(PATIENCE)

    def call(self, method, params):
        """Calls the server, that is a rule chain, and gives its answer."""
        with self.lock:
            self.last_id += 1
            number = str(self.last_id)
            done, box = self.pending[number] = threading.Event(), []
        self.client.publish(REQUESTS + number, json.dumps({"method": method, "params": params}), qos=1)
        answered = done.wait(PATIENCE)
        with self.lock:
            self.pending.pop(number, None)
        if not answered:
            raise TimeoutError(f"calling {method}: no answer")
        if isinstance(box[0], dict) and "error" in box[0]:
            raise RuntimeError(f"calling {method}: {box[0]['error']}")
        return box[0]

    def _connected(self, client, userdata, flags, reason, properties):
        """Runs after each connect: subscriptions do not outlive a connection."""
        if reason.is_failure:
            self.refused = f"the server refuses the device: {reason}"
            self.ready.set()
            return
        filters = [(REQUESTS + "+", 1), (RESPONSES + "+", 1)]
        if self.attributes:
            filters.append((ATTRIBUTES, 1))
        client.subscribe(filters)

    def _subscribed(self, client, userdata, mid, reasons, properties):
        if any(r.is_failure for r in reasons):
            self.refused = f"the server refuses the subscription: {reasons}"
        self.ready.set()

    def _received(self, client, userdata, message):
        """Runs for one message after the other; the client acknowledges each when this returns."""
        topic, payload = message.topic, message.payload
        if topic.startswith(REQUESTS):
            number = topic.removeprefix(REQUESTS)
            client.publish(RESPONSES + number, self._answer(number, payload), qos=1)
        elif topic.startswith(RESPONSES):
            with self.lock:
                done, box = self.pending.get(topic.removeprefix(RESPONSES), (None, None))
            if done:
                box.append(json.loads(payload))
                done.set()
        elif self.attributes:
            self.attributes(json.loads(payload))

    def _answer(self, number, payload):
        """Carries a call out once: one that comes a second time, because its acknowledgement was lost, has the same id."""
        if number not in self.answers:
            self.answers[number] = json.dumps(self._carry_out(payload))
            if len(self.answers) > REMEMBERED:
                self.answers.popitem(last=False)
        return self.answers[number]

    def _carry_out(self, payload):
        try:
            call = json.loads(payload)
            method = self.methods.get(call["method"])
            if method is None:
                raise ValueError(f"unknown method {call['method']}")
            return method(call.get("params"))
        except (ValueError, KeyError, TypeError) as e:
            return {"error": str(e)}


def until_stopped():
    """An event that Ctrl-C and SIGTERM set, so that programs end by themselves."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop


def say(text):
    """Prints a line at once, also into a pipe."""
    print(text)
    sys.stdout.flush()
