"""A simulated gate with a radio that is on for a while and off for longer, the same as main.go beside it:
python3 -m examples.gate.gate --token GATE_1
"""
import argparse
import threading

from examples.device.device import Device, say, until_stopped


class Gate:
    """What is opened and closed."""

    def __init__(self):
        self.is_open, self.lock = False, threading.Lock()

    def open(self, params):
        return self.turn(True)

    def close(self, params):
        return self.turn(False)

    def turn(self, is_open):
        with self.lock:
            self.is_open = is_open
        return self.state(None)

    def state(self, params):
        with self.lock:
            say(f"open {str(self.is_open).lower()}")
            return {"open": self.is_open}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mqtt", default="127.0.0.1:1883", help="host:port of the server's MQTT listener")
    parser.add_argument("--token", default="GATE_1", help="access token of the device")
    parser.add_argument("--on", type=float, default=10, help="seconds that the radio is on")
    parser.add_argument("--off", type=float, default=20, help="seconds that it is off; 0: never")
    args = parser.parse_args()
    stop, gate = until_stopped(), Gate()
    methods = {"open": gate.open, "close": gate.close, "getState": gate.state}
    while not stop.is_set():
        device = Device(args.mqtt, args.token, methods)
        device.connect()
        say("online")
        stop.wait(args.on if args.off else None)
        device.close()
        say("offline")
        stop.wait(args.off)


if __name__ == "__main__":
    main()
