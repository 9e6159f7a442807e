import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import yaml

from tests.targets import block_of
from tests.view.made import CLASSES, Results
from wsi_mil.errors import ConfigError
from wsi_mil.view.serving import free_socket

CONFIG = {"cohort": "cohort.csv", "targets": block_of(*CLASSES), "models": {"abmil": {"model": "abmil"}}}


def test_if_a_port_is_in_use_the_next_free_one_is_used() -> None:
    with free_socket("127.0.0.1", 18642) as first, free_socket("127.0.0.1", first.getsockname()[1]) as second:
        assert second.getsockname()[1] > first.getsockname()[1]


def test_an_unavailable_address_is_an_error_of_the_user() -> None:
    with pytest.raises(ConfigError, match="--host"):
        free_socket("192.0.2.1", 18642)


def served(results: Path, *arguments: str) -> tuple[str, str, str, str]:
    """The first page of the command, started from elsewhere; its address; what it printed and said; without torch."""
    code = "import sys; from wsi_mil.cli import main\ntry: main()\nfinally: print('torch' in sys.modules, flush=True)"
    command = [sys.executable, "-c", code, "view", str(results), *arguments]
    with subprocess.Popen(command, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        address = next(word for word in server.stdout.readline().split() if word.startswith("http"))
        with urllib.request.urlopen(address) as answer:
            page = answer.read().decode()
        server.send_signal(signal.SIGINT)
        output, errors = server.communicate(timeout=300)
    return page, address, output, errors


@pytest.mark.slow
def test_the_command_serves_prints_its_address_and_needs_no_torch(made: Results) -> None:
    """The configuration beside the results is found."""
    made.catalogue()  # writes the sheet
    (made.folder / "c.yaml").write_text(yaml.safe_dump(CONFIG))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        page, address, output, errors = served(made.results, f"--port={port}")
    assert address.startswith("http://127.0.0.1:") and f":{port}/" not in address and f"port {port} is in use" in errors
    assert "s10" in page and "--configfile" not in page and "c.yaml" in errors
    assert output.strip() == "False"


@pytest.mark.slow
def test_faults_of_a_configuration_found_automatically_are_notes(made: Results) -> None:
    made.catalogue()
    config = made.folder / "c.yaml"
    config.write_text(yaml.safe_dump({**CONFIG, "heatmap": {"colourmap": "magma"}}))
    page, *_ = served(made.results)
    assert "s10" in page and "c.yaml has faults" in page and "colourmap" in page
    command = [sys.executable, "-m", "wsi_mil", "view", str(made.results), "--configfile", str(config)]
    named = subprocess.run(command, capture_output=True, text=True, check=False)
    assert named.returncode == 2 and "colourmap" in named.stderr


def test_without_its_packages_the_command_says_how_to_get_them(tmp_path: Path) -> None:
    code = "import sys; sys.modules['uvicorn'] = None; from wsi_mil.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "view", str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "view needs the packages uvicorn; pip install 'wsi_mil[view]'" in done.stderr


def test_a_missing_folder_is_an_error_of_the_user(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "wsi_mil", "view", str(tmp_path / "none")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "no such folder" in done.stderr
