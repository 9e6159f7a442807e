#!/usr/bin/env python3
"""Run everything that needs a GPU, in at most 12 minutes.

    make gpu, or python benchmarks/gpu.py [--only tests extraction training] [--out benchmarks/results/gpu.json]
    python benchmarks/gpu.py --device cpu --tiny      every part at its smallest, to see that they run

tests         the tests marked `gpu`
extraction    `extract` with ViT-L/16 and ResNet-50 of random weights, by batch size, compared with the encoder alone
training      time and memory of a training step of the models in the table of Tang et al. 2023, bags of 12,000 × 1,024

Each part is a process with a time limit. What is measured is written to --out after each row, and tables in Markdown beside it
at the end. A part that fails or takes too long is reported with its last lines, and the others still run. The exit code is 1 if
a part failed; without a GPU it is 0. Nothing needs a network. The last line is JSON.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from datetime import datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.gpu_parts.report import PartRecord, Record, row_of
from wsi_mil.files import write_text

ROOT = Path(__file__).resolve().parents[1]
SECONDS = {"tests": 150, "extraction": 330, "training": 180}
"""Time limit of each part; with that of the probe it is less than 12 minutes."""
MODULES = {"tests": "checks", "extraction": "extraction", "training": "training"}
PROBE_SECONDS = 50
RESERVE = 0.8
"""Share of a part's time after which it begins no other row."""
N_LAST_LINES = 25
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}


def command_of(module: str, *options: str) -> list[str]:
    return [sys.executable, "-m", f"benchmarks.gpu_parts.{module}", *options]


def environment() -> dict[str, str]:
    """Environment of the parts: no network, and each line of output at once."""
    return {**os.environ, **OFFLINE}


def probe(device: str) -> dict[str, object]:
    """Return a description of the device; in a process of its own, since a broken driver may hang or crash it."""
    options = {"cwd": ROOT, "env": environment(), "capture_output": True, "text": True, "timeout": PROBE_SECONDS}
    try:
        done = subprocess.run(command_of("device", device), **options)
    except subprocess.TimeoutExpired:
        return {"fault": f"looking for a CUDA device took more than {PROBE_SECONDS} s"}
    lines = done.stdout.splitlines()
    try:
        found: dict[str, object] = json.loads(lines[-1])
    except (IndexError, ValueError):
        last = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        return {"fault": f"looking for a CUDA device failed: {last}"}
    return found


def run_part(name: str, record: Record, *, device: str, is_tiny: bool) -> None:
    """Run a part, and record its rows as they come."""
    limit = SECONDS[name]
    options = [f"--device={device}", f"--seconds={RESERVE * limit:.0f}", *(["--tiny"] if is_tiny else [])]
    part = record.parts[name] = PartRecord()
    record.save()
    start = time.monotonic()
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "errors": "replace"}
    process = subprocess.Popen(
        command_of(MODULES[name], *options), cwd=ROOT, env=environment(), start_new_session=True, **how
    )  # in a session of its own, so that its children end with it
    last_lines: deque[str] = deque(maxlen=N_LAST_LINES)
    reader = threading.Thread(target=_read, args=(process, part, record, last_lines), daemon=True)
    reader.start()
    try:
        code = process.wait(timeout=limit)
        part.status = "failed" if code else "passed"
    except subprocess.TimeoutExpired:
        part.status = "timed out"
    finally:
        _end(process)
        reader.join(timeout=5)
        part.seconds = round(time.monotonic() - start, 1)
        part.last_lines = [] if part.status == "passed" else list(last_lines)
        record.save()


def _read(process: subprocess.Popen[str], part: PartRecord, record: Record, last_lines: deque[str]) -> None:
    """Read the output of a part to its end: rows into the record, everything onto the screen."""
    assert process.stdout is not None
    with process.stdout as lines:
        for line in lines:
            print(line, end="", flush=True)
            row = row_of(line)
            if row is None:
                last_lines.append(line.rstrip("\n"))
            else:
                part.rows.append(row)
                record.save()


def _end(process: subprocess.Popen[str]) -> None:
    """End a part with all its children."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SECONDS, default=list(SECONDS), help="run these parts only")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: to try the script itself")
    parser.add_argument("--tiny", action="store_true", help="the smallest sizes; figures mean nothing")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "gpu.json", help="file for the results")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the part in hand ends too
    found = probe(args.device)
    if "absent" in found:
        print(f"make gpu: {found['absent']}, so nothing was measured.")
        return 0
    if "fault" in found:
        print(f"make gpu: {found['fault']}")
        return 1
    about = {"date": f"{datetime.now():%Y-%m-%d %H:%M}", "tiny": args.tiny, **found}
    print(json.dumps(about, indent=1), flush=True)
    record = Record(args.out, about)
    for name in args.only:
        print(f"--- {name}, at most {SECONDS[name]} s", flush=True)
        run_part(name, record, device=str(found["device"]), is_tiny=args.tiny)
    text = record.markdown()
    write_text(args.out.with_suffix(".md"), text)
    print(f"\n{text}\nwritten: {args.out}, {args.out.with_suffix('.md')}")
    print(json.dumps(record.figures()))
    return int(bool(record.bad_parts))


if __name__ == "__main__":
    sys.exit(main())
