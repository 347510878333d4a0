"""A device on paho-mqtt, driven by lines of JSON: a client that nobody of this project wrote.

devices.py HOST PORT TOKEN VERSION QOS     VERSION is 3.1, 3.1.1 or 5

It subscribes to calls and answers each with {"echo": <params>, "method": <method>}. It prints a line of JSON for each thing that happens:
{"event": "ready"}, {"event": "call", "id": …, "payload": …, "qos": …}, {"event": "answer", "id": …, "payload": …}. A line
{"call": METHOD, "id": N, "params": …} on its standard input makes it call the server; {"quiet": true} stops its answers, which it confirms.
It ends with its standard input.
"""
import json
import sys
import threading

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

REQUEST = "v1/devices/me/rpc/request/"
RESPONSE = "v1/devices/me/rpc/response/"
VERSIONS = {"3.1": mqtt.MQTTv31, "3.1.1": mqtt.MQTTv311, "5": mqtt.MQTTv5}


class Device:
    def __init__(self, token, version, qos):
        self.qos = qos
        self.quiet = False
        self.lock = threading.Lock()
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="e2e-" + token, protocol=VERSIONS[version])
        self.client.username_pw_set(token)
        self.client.on_connect = self.connected
        self.client.on_subscribe = self.subscribed
        self.client.on_message = self.message

    def tell(self, **what):
        with self.lock:
            print(json.dumps(what), flush=True)

    def connected(self, client, userdata, flags, reason, properties):
        if reason.is_failure:
            self.tell(event="refused", reason=str(reason))
            return
        client.subscribe([(REQUEST + "+", self.qos), (RESPONSE + "+", self.qos)])

    def subscribed(self, client, userdata, mid, reasons, properties):
        if any(r.is_failure for r in reasons):
            self.tell(event="refused", reason=str(reasons))
            return
        self.tell(event="ready")

    def message(self, client, userdata, m):
        text, quiet = m.payload.decode(), self.quiet
        if m.topic.startswith(RESPONSE):
            self.tell(event="answer", id=m.topic[len(RESPONSE):], payload=text)
            return
        call = m.topic[len(REQUEST):]
        self.tell(event="call", id=call, payload=text, qos=m.qos)
        if not quiet:
            asked = json.loads(text)
            client.publish(RESPONSE + call, json.dumps({"echo": asked["params"], "method": asked["method"]}), self.qos)

    def order(self, line):
        wish = json.loads(line)
        if "quiet" in wish:
            self.quiet = wish["quiet"]
            self.tell(event="quiet")
        if "call" in wish:
            body = json.dumps({"method": wish["call"], "params": wish["params"]})
            self.client.publish(REQUEST + str(wish["id"]), body, self.qos)


def main():
    host, port, token, version, qos = sys.argv[1:]
    device = Device(token, version, int(qos))
    device.client.connect(host, int(port), keepalive=30)
    device.client.loop_start()
    for line in sys.stdin:
        device.order(line)
    device.client.disconnect()
    device.client.loop_stop()


main()
