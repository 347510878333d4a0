"""A device on ThingsBoard's own SDK (tb-mqtt-client), unmodified, driven by lines of JSON as devices.py is.

sdk_device.py mqtt HOST PORT TOKEN
sdk_device.py http URL - TOKEN

It answers each call with {"echo": <params>, "method": <method>} and prints the same lines as devices.py: ready, call, answer, quiet. A line
{"call": METHOD, "params": …} on its standard input makes it call the server; {"quiet": true} stops its answers. It ends with its standard input.
"""
import json
import os
import sys
import threading
import time

printing = threading.Lock()
begun = threading.Event()  # "ready" was told: a stored call may come before


def tell(**what):
    with printing:
        print(json.dumps(what), flush=True)


def compact(value):
    return json.dumps(value, separators=(",", ":"))


class OverMQTT:
    def __init__(self, host, port, token):
        from tb_device_mqtt import TBDeviceMqttClient

        self.quiet = False
        self.device = TBDeviceMqttClient(host, int(port), username=token)
        self.device.set_server_side_rpc_request_handler(self.called)
        # Not with the SDK's callback: connect() takes it over when its thread is running already, and forgets it if that was quicker.
        self.device.connect()
        late = time.monotonic() + 15
        while not self.device.is_connected():
            if time.monotonic() > late:
                raise SystemExit("the SDK did not connect")
            time.sleep(0.02)

    def called(self, call, body):
        begun.wait()
        tell(event="call", id=str(call), payload=compact(body))
        if not self.quiet:
            self.device.send_rpc_reply(call, {"echo": body["params"], "method": body["method"]})

    def call(self, method, params):
        self.device.send_rpc_call(method, params, lambda call, answer, error=None: tell(event="answer", id=str(call), payload=compact(answer)))


class OverHTTP:
    def __init__(self, url, _, token):
        from tb_device_http import TBHTTPDevice

        self.quiet = False
        self.device = TBHTTPDevice(url, token)
        if not self.device.connect():
            raise SystemExit("the SDK did not connect")
        self.device.subscribe("rpc", self.called)

    def called(self, body):
        begun.wait()
        tell(event="call", id=str(body["id"]), payload=compact({"method": body["method"], "params": body["params"]}))
        if not self.quiet:
            # the SDK has no public way to answer
            self.device._publish_data({"echo": body["params"], "method": body["method"]}, "rpc/%d" % body["id"])

    def call(self, method, params):
        tell(event="answer", id="", payload=compact(self.device.send_rpc(method, params)))


def main():
    kind, *where = sys.argv[1:]
    device = {"mqtt": OverMQTT, "http": OverHTTP}[kind](*where)
    tell(event="ready")
    begun.set()
    for line in sys.stdin:
        wish = json.loads(line)
        if "quiet" in wish:
            device.quiet = wish["quiet"]
            tell(event="quiet")
        if "call" in wish:
            device.call(wish["call"], wish["params"])
    os._exit(0)  # the SDK's threads do not end


main()
