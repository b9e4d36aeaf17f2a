#!/usr/bin/env python3
"""Tunnels of several implementations between two network namespaces, measured in turns in one run.

    tunnels.py [--rounds N] [--seconds N] NAME=PROGRAM...

NAME says how the program is started: overlayd, overlayd-plain (the example `device` of userspace-wg, with and without
offloads), boringtun, gotatun, wireguard-go, zlayer. Needs root, wg, ip, ping and iperf3. Prints Markdown: for each
implementation the median over the rounds, and the ratio to each of the others in the same rounds.
"""

import argparse
import json
import os
import re
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time

TICKS = os.sysconf("SC_CLK_TCK")
MTU = 1420
PORT = 51820
# A final c: from a container behind a bridge to another.
TESTS = ["tcp1", "tcp1r", "tcp1c", "tcp4", "udp1392", "udp200", "ping"]


def run(*command, check=True, stdin=None):
    done = subprocess.run(command, input=stdin, capture_output=True, text=True)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout


class End:
    """One end of the tunnel: a namespace, a device and the process behind it."""

    def __init__(self, lab, number, kind, program):
        self.netns = f"tun-bench-{number}"
        self.name = f"tb{number}"
        self.underlay = f"192.0.2.{number}"
        self.address = f"10.77.{number}.1"
        self.inside = f"10.77.{number}.2"
        self.kind, self.program, self.lab = kind, program, lab
        self.process = self.public = None

    def command(self, *command):
        return ["ip", "netns", "exec", self.netns, *command]

    def run(self, *command, **options):
        return run(*self.command(*command), **options)

    def start(self):
        getattr(self, "start_" + self.kind.replace("-", "_"))()

    def spawn(self, *command, env=None):
        """Starts the program with a directory of its own for control sockets, also where zlayer looks for it."""
        data = os.path.join(self.lab, self.name, "run/wireguard")
        for directory in ("/run/wireguard", data):
            os.makedirs(directory, exist_ok=True)
        script = f'mount -t tmpfs none /run/wireguard && mount --bind /run/wireguard {data} && exec "$@"'
        command = ["unshare", "-m", "sh", "-c", script, "sh", *command]
        self.process = subprocess.Popen(
            self.command(*command), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env
        )

    def start_overlayd(self):
        self.spawn(self.program, self.name)
        self.configure()

    def start_overlayd_plain(self):
        self.spawn(self.program, self.name, "none")
        self.configure()

    def start_boringtun(self):
        self.spawn(self.program, "-f", "--disable-drop-privileges", self.name)
        self.configure()

    def start_gotatun(self):
        self.spawn(self.program, "-f", "--disable-drop-privileges", self.name)
        self.configure()

    def start_wireguard_go(self):
        self.spawn(self.program, "-f", self.name, env={**os.environ, "LOG_LEVEL": "silent"})
        self.configure()

    def start_zlayer(self):
        path = os.path.join(self.lab, f"{self.name}.sock")
        data = os.path.join(self.lab, self.name)
        quiet = {**os.environ, "RUST_LOG": "error"}
        self.spawn(self.program, "--data-dir", data, "--socket", path, env=quiet)
        request = {
            "op": "setup_global_overlay", "deployment": "bench", "instance_id": self.name,
            "cluster_cidr": "10.77.0.0/16", "slice_cidr": f"{self.address[:-1]}0/26", "wg_port": PORT,
            "host_adapter_mandatory": True,
        }
        reply = ask(path, request)
        found = re.search(r'"(zl-[^"]*)"', json.dumps(reply))
        if not found:
            raise RuntimeError(f"zlayer: {reply}")
        self.name = found.group(1)
        self.public = ask(path, {"op": "status"})["response"]["public_key"]

    def wg(self, *arguments, stdin=None):
        pid = str(self.process.pid)
        return run("nsenter", "-t", pid, "-m", "-n", "wg", *arguments, stdin=stdin)

    def configure(self):
        patience(lambda: self.name in self.wg("show", "interfaces"))
        key = run("wg", "genkey")
        # Not every implementation tells it.
        self.public = run("wg", "pubkey", stdin=key).strip()
        self.wg("set", self.name, "listen-port", str(PORT), "private-key", "/dev/stdin", stdin=key)
        self.run("ip", "address", "add", f"{self.address}/16", "dev", self.name)
        self.run("ip", "link", "set", self.name, "mtu", str(MTU), "up")

    def know(self, other):
        endpoint = f"{other.underlay}:{PORT}"
        self.wg("set", self.name, "peer", other.public, "endpoint", endpoint, "allowed-ips", f"{other.address}/24")

    def plug_container(self):
        """A namespace on a bridge whose range is routed through the tunnel."""
        container = self.netns + "-c"
        run("ip", "netns", "del", container, check=False)
        run("ip", "netns", "add", container)
        self.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        self.run("ip", "link", "add", "inner", "type", "bridge")
        self.run("ip", "link", "add", "port", "master", "inner", "type", "veth", "peer", "eth0", "netns", container)
        for link in ("inner", "port"):
            self.run("ip", "link", "set", link, "up")
        self.run("ip", "address", "add", f"{self.inside[:-1]}3/24", "dev", "inner")
        inside = ["ip", "-n", container]
        run(*inside, "link", "set", "eth0", "mtu", str(MTU), "up")
        run(*inside, "address", "add", f"{self.inside}/24", "dev", "eth0")
        run(*inside, "route", "add", "default", "via", f"{self.inside[:-1]}3")

    def cpu(self):
        """User and system time of the device's process, in seconds."""
        with open(f"/proc/{self.process.pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return int(fields[11]) / TICKS, int(fields[12]) / TICKS

    def stop(self):
        if self.process:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        for netns in (self.netns, self.netns + "-c"):
            run("ip", "netns", "del", netns, check=False)


def ask(path, request):
    patience(lambda: os.path.exists(path))
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(path)
        body = json.dumps({"frame": "request", "id": 1, "request": request}).encode()
        connection.sendall(struct.pack("<I", len(body)) + body)
        stream = connection.makefile("rb")
        while True:
            (length,) = struct.unpack("<I", stream.read(4))
            reply = json.loads(stream.read(length))
            if reply.get("frame") == "response":
                return reply


def patience(condition, seconds=20):
    end = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except RuntimeError:
            pass
        if time.monotonic() > end:
            raise RuntimeError("waited in vain")
        time.sleep(0.02)


def busy():
    """Time that all processors have worked, and all time there was, in ticks."""
    with open("/proc/stat") as stat:
        times = [int(field) for field in stat.readline().split()[1:9]]
    return sum(times) - times[3] - times[4], sum(times)


class Tunnel:
    def __init__(self, kind, program):
        self.lab = tempfile.TemporaryDirectory()
        self.ends = [End(self.lab.name, number, kind, program) for number in (1, 2)]

    def __enter__(self):
        try:
            self.set_up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def set_up(self):
        left, right = self.ends
        for end in self.ends:
            run("ip", "netns", "del", end.netns, check=False)
            run("ip", "netns", "add", end.netns)
            end.run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "cable", "netns", left.netns, "type", "veth", "peer", "cable", "netns", right.netns)
        for end in self.ends:
            end.run("ip", "address", "add", f"{end.underlay}/24", "dev", "cable")
            end.run("ip", "link", "set", "cable", "up")
            end.start()
        left.know(right)
        right.know(left)
        patience(lambda: "1 received" in left.run("ping", "-c", "1", "-W", "1", right.address))

    def __exit__(self, *_):
        for end in self.ends:
            end.stop()
        self.lab.cleanup()

    def measure(self, test, seconds):
        before, cpus = busy(), [end.cpu() for end in self.ends]
        result = self.ping(seconds) if test == "ping" else self.iperf(test, seconds)
        spent = [tuple(b - a for a, b in zip(old, end.cpu())) for old, end in zip(cpus, self.ends)]
        after = busy()
        result["busy"] = (after[0] - before[0]) / (after[1] - before[1])
        if "bytes" in result:
            gigabytes = max(result.pop("bytes"), 1) / 1e9
            if test.endswith("r"):
                spent.reverse()
            result["cpu_send"], result["cpu_receive"] = (sum(pair) / gigabytes for pair in spent)
            result["sys_send"], result["sys_receive"] = (pair[1] / gigabytes for pair in spent)
            result["cpu"] = result["cpu_send"] + result["cpu_receive"]
        return result

    def ping(self, seconds):
        left, right = self.ends
        count = str(int(seconds / 0.002))
        text = left.run("ping", "-i", "0.002", "-c", count, right.address)
        times = sorted(float(ms) * 1000 for ms in re.findall(r"time=([\d.]+) ms", text))
        return {"p50": times[len(times) // 2], "p99": times[len(times) * 99 // 100]}

    def iperf(self, test, seconds):
        left, right = self.ends
        ways = {False: ("", right.address), True: ("-c", right.inside)}
        suffix, address = ways[test.endswith("c")]
        if suffix:
            left.plug_container()
            right.plug_container()
        server_in, client_in = ["ip", "netns", "exec", right.netns + suffix], ["ip", "netns", "exec", left.netns + suffix]
        server = subprocess.Popen([*server_in, "iperf3", "-s", "-1"], stdout=subprocess.DEVNULL)
        patience(lambda: ":5201" in run(*server_in, "ss", "-Hltn"))
        options = {
            "tcp1": [], "tcp1r": ["-R"], "tcp4": ["-P", "4"], "udp1392": ["-u", "-b", "0", "-l", "1392"],
            "udp200": ["-u", "-b", "0", "-l", "200"],
        }[test.rstrip("c")]
        try:
            text = run(*client_in, "iperf3", "-J", "-c", address, "-t", str(seconds), *options)
        finally:
            server.terminate()
            server.wait()
        end = json.loads(text)["end"]
        if test.startswith("udp"):
            total = end["sum"]
            received = total["bytes"] * (1 - total["lost_percent"] / 100)
            return {"gbits": received * 8 / total["seconds"] / 1e9, "bytes": received, "loss": total["lost_percent"]}
        received = end["sum_received"]
        return {
            "gbits": received["bits_per_second"] / 1e9, "bytes": received["bytes"],
            "retransmits": end["sum_sent"].get("retransmits", 0),
        }


def median(values):
    return statistics.median(values) if values else float("nan")


def report(results, names):
    """`results[test][name]` is a list of what was measured, one for each round."""
    for test, by_name in results.items():
        fields = sorted({field for runs in by_name.values() for one in runs for field in one})
        key = "p50" if test == "ping" else "gbits"
        fields.remove(key)
        print(f"\n{test}\n\n| | {key} | each round | {names[0]} to it | " + " | ".join(fields) + " |")
        print("|" + "---|" * (4 + len(fields)))
        for name in names:
            runs = by_name.get(name, [])
            ratios = [ours[key] / one[key] for ours, one in zip(by_name[names[0]], runs) if one and one.get(key)]
            each = " ".join(f"{one[key]:.2f}" for one in runs if key in one)
            values = [median([one[field] for one in runs if field in one]) for field in fields]
            cells = " | ".join(f"{value:.2f}" for value in values)
            of_key = median([one[key] for one in runs if key in one])
            print(f"| {name} | {of_key:.2f} | {each} | {median(ratios):.2f} | {cells} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--tests", default=",".join(TESTS))
    parser.add_argument("--json", help="file for everything that was measured")
    parser.add_argument("programs", nargs="+", metavar="NAME=PROGRAM")
    arguments = parser.parse_args()
    programs = dict(argument.split("=", 1) for argument in arguments.programs)
    tests = arguments.tests.split(",")
    results = {test: {name: [] for name in programs} for test in tests}
    print("load average before: " + open("/proc/loadavg").read().strip())
    for number in range(arguments.rounds):
        for name, program in programs.items():
            for test in tests:
                try:
                    with Tunnel(name.split("@")[0], program) as tunnel:
                        one = tunnel.measure(test, arguments.seconds)
                except (RuntimeError, KeyError, json.JSONDecodeError) as error:
                    print(f"{name}, {test}: {error}", file=sys.stderr)
                    one = {}
                results[test][name].append(one)
                print(f"round {number + 1}: {name} {test} {one}", file=sys.stderr, flush=True)
    print("load average after: " + open("/proc/loadavg").read().strip())
    report(results, list(programs))
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(results, file)


if __name__ == "__main__":
    main()
