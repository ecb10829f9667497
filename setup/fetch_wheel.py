#!/usr/bin/env python3
"""Fetch one wheel, whole and checked: fetch_wheel.py FILE SHA256 FOLDER

pip says where the wheel is, so its index, certificates and proxy count; curl goes on where a broken
download stopped, which Debian 12's pip cannot. Prints the path of the wheel.
"""
import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]


def say(text):
    print("setup:", text, file=sys.stderr, flush=True)


def pip_setting(name):
    """From pip.conf or PIP_*; the environment comes last in pip's list, and wins."""
    listed = subprocess.run(PIP + ["config", "list"], capture_output=True, text=True).stdout
    value = None
    for line in listed.splitlines():
        key, _, quoted = line.partition("=")
        if key.rpartition(".")[2] == name:
            value = ast.literal_eval(quoted)
    return value


def request(file):
    """What to ask pip for, so that it takes this file whatever Python runs it."""
    name, version, python, abi, platforms = file[: -len(".whl")].split("-")
    version_tag = python[2:] if python.startswith("cp") else "311"
    words = ["--no-deps", "--only-binary=:all:", "--implementation", python[:2],
             "--python-version", version_tag, "--abi", abi]
    for platform in platforms.split("."):
        words += ["--platform", platform]
    return words + [f"{name}=={version}"]


def locate(file):
    """The wheel's address, or None if this pip cannot say."""
    with tempfile.TemporaryDirectory() as scratch:
        report = os.path.join(scratch, "report.json")
        done = subprocess.run(
            PIP + ["install", "--quiet", "--dry-run", "--ignore-installed", "--report", report,
                   "--target", scratch, *request(file)], capture_output=True, text=True)
        if done.returncode:
            return None
        with open(report) as found:
            return json.load(found)["install"][0]["download_info"]["url"]


def resume(url, part):
    command = ["curl", "--fail", "--location", "--silent", "--show-error", "--retry", "5",
               "--retry-delay", "2", "--connect-timeout", "30", "--speed-limit", "1", "--speed-time",
               "60", "--continue-at", "-", "--output", part, "--netrc-optional"]
    for setting, option in (("cert", "--cacert"), ("proxy", "--proxy"), ("client-cert", "--cert")):
        value = pip_setting(setting)
        if value:
            command += [option, value]
    if sys.stderr.isatty():
        command[command.index("--silent")] = "--progress-bar"
    return subprocess.run(command + [url]).returncode == 0


def plain(file, part):
    with tempfile.TemporaryDirectory(dir=os.path.dirname(part)) as scratch:
        subprocess.run(PIP + ["download", "--quiet", "--no-cache-dir", "--dest", scratch,
                              *request(file)], check=True)
        os.replace(os.path.join(scratch, os.listdir(scratch)[0]), part)


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def main(file, wanted, folder):
    wheel = os.path.join(folder, file)
    part = wheel + ".part"
    os.makedirs(folder, exist_ok=True)
    if os.path.exists(wheel) and sha256(wheel) == wanted:
        print(wheel)
        return 0
    if os.path.exists(part):
        say(f"{file}: going on at {os.path.getsize(part) >> 20} MiB")
    else:
        say(f"{file}: downloading")
    whole = os.path.exists(part) and sha256(part) == wanted  # curl would ask for what is past its end
    if not whole:
        url = locate(file) if shutil.which("curl") else None
        if not (url and resume(url, part)):
            say(f"{file}: cannot be resumed here, so pip downloads it")
            plain(file, part)
    found = sha256(part)
    if found != wanted:
        os.remove(part)
        say(f"{file}: SHA-256 is {found}, not {wanted}; deleted, run it again")
        return 1
    os.replace(part, wheel)
    print(wheel)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except subprocess.CalledProcessError as error:
        say(f"pip failed with status {error.returncode}")
        sys.exit(1)
