"""A simulated thermostat, the same as main.go beside it: python3 -m examples.thermostat.thermostat --token THERMOSTAT_1"""
import argparse
import threading

from examples.device.device import Device, say, until_stopped

SAFE = 18  # the temperature that the room falls to when the heating is off


class Room:
    """What the thermostat controls."""

    def __init__(self):
        self.now, self.target, self.alarm = 19.0, 20.0, False
        self.lock = threading.Lock()

    def warm(self):
        """Lets time pass: the room comes half the way to where it is heated to."""
        with self.lock:
            goal = min(self.target, SAFE) if self.alarm else self.target
            self.now += (goal - self.now) / 2
            return round(self.now, 1)

    def set_target(self, params):
        celsius = params.get("celsius") if isinstance(params, dict) else None
        if not isinstance(celsius, (int, float)):
            raise ValueError('setTarget wants {"celsius": number}')
        if not 5 <= celsius <= 35:
            raise ValueError("celsius must be from 5 to 35")
        with self.lock:
            self.target = celsius
        say(f"target {celsius:g} °C")
        return {"target": celsius}

    def get_status(self, params):
        with self.lock:
            return {"target": self.target, "heating": not self.alarm}

    def attributes(self, changed):
        if "alarm" in changed:
            with self.lock:
                self.alarm = changed["alarm"] is True
            say(f"alarm {str(self.alarm).lower()}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mqtt", default="127.0.0.1:1883", help="host:port of the server's MQTT listener")
    parser.add_argument("--token", default="THERMOSTAT_1", help="access token of the device")
    parser.add_argument("--interval", type=float, default=5, help="seconds between two reports")
    args = parser.parse_args()
    stop, room = until_stopped(), Room()
    device = Device(args.mqtt, args.token, {"setTarget": room.set_target, "getStatus": room.get_status}, room.attributes)
    device.connect()
    for part in device.call("getSchedule", {})["schedule"]:
        say(f"schedule: from {part['from']} {part['celsius']:g} °C")
    say("ready")
    while not stop.is_set():
        device.report({"temperature": room.warm()})
        stop.wait(args.interval)
    device.close()


if __name__ == "__main__":
    main()
