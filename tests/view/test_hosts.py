import socket

import pytest
from starlette.testclient import TestClient

from tests.view.made import Results
from wsi_mil.view import create_app
from wsi_mil.view.hosts import LOCAL_NAMES, host_name, own_names


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "LOCALHOST.:8000", "[::1]:8000", "192.0.2.7:8000"])
def test_ip_addresses_and_known_names_are_accepted(made: Results, host: str) -> None:
    with TestClient(create_app(made.catalogue())) as client:
        assert client.get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", ""])
def test_another_name_for_this_machine_is_refused(made: Results, host: str) -> None:
    """Such a name is how a page from elsewhere would read the slides (DNS rebinding)."""
    with TestClient(create_app(made.catalogue())) as client:
        answer = client.get("/slides/s1", headers={"host": host})
    assert answer.status_code == 400 and "localhost" in answer.text and "s1" not in answer.text


def test_a_public_server_accepts_its_machines_names_only(made: Results) -> None:
    names = own_names("0.0.0.0")
    assert socket.gethostname() in names and "localhost" in names
    with TestClient(create_app(made.catalogue(), names=names)) as client:
        found = [client.get("/", headers={"host": host}).status_code for host in (f"{socket.gethostname()}:80", "evil.example")]
    assert found == [200, 400]


def test_names_of_a_server() -> None:
    assert own_names("127.0.0.1") == own_names("::1") == own_names("localhost") == LOCAL_NAMES
    assert "slides.example" in own_names("slides.example")
    assert (host_name("A.b:80"), host_name("[fe80::1]:80"), host_name("")) == ("a.b", "fe80::1", "")
