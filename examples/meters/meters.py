"""A fleet of simulated electricity meters in one process, the same as main.go beside it:
python3 -m examples.meters.meters --tokens METER_ --count 20
"""
import argparse

from examples.device.device import Device, say, until_stopped


class Meter:
    """Counts 0.5 kWh between two readings; a broken one answers with what cannot be true."""

    def __init__(self, number, broken):
        self.number, self.broken, self.kwh = number, broken, 100.0 * number

    def reading(self, params):
        if self.broken:
            return {"meter": self.number, "kwh": -1}
        self.kwh += 0.5
        return {"meter": self.number, "kwh": self.kwh}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mqtt", default="127.0.0.1:1883", help="host:port of the server's MQTT listener")
    parser.add_argument("--tokens", default="METER_", help="access tokens are this and 1, 2, ...")
    parser.add_argument("--count", type=int, default=200, help="number of meters")
    parser.add_argument("--broken", type=int, default=50, help="every so many'th is broken; 0: none")
    args = parser.parse_args()
    stop, devices = until_stopped(), []
    try:
        for number in range(1, args.count + 1):
            meter = Meter(number, args.broken and number % args.broken == 0)
            device = Device(args.mqtt, f"{args.tokens}{number}", {"getReading": meter.reading})
            device.connect()
            devices.append(device)
        say(f"{len(devices)} meters are ready")
        stop.wait()
    finally:
        for device in devices:
            device.close()


if __name__ == "__main__":
    main()
