"""The port that several API processes share."""

import socket

import pytest

from tracker.cli.serve_processes import _reserved
from tracker.errors import ConfigurationError

HOST = "127.0.0.1"


def _listening(*options: int) -> socket.socket:
    listening = socket.socket()
    for option in (socket.SO_REUSEADDR, *options):
        listening.setsockopt(socket.SOL_SOCKET, option, 1)
    listening.bind((HOST, 0))
    listening.listen()
    return listening


def _port_in_time_wait(*options: int) -> int:
    """A port of which only a connection is left that its server closed first."""
    with _listening(*options) as listening:
        port = int(listening.getsockname()[1])
        with socket.create_connection((HOST, port)) as client:
            served, _ = listening.accept()
            with served:
                served.shutdown(socket.SHUT_WR)
                assert client.recv(1) == b""
                client.close()
                assert served.recv(1) == b""
    return port


@pytest.mark.parametrize("options", [(), (socket.SO_REUSEPORT,)], ids=["one process", "several processes"])
def test_a_port_is_reserved_while_connections_of_an_earlier_server_are_in_time_wait(options: tuple[int, ...]) -> None:
    port = _port_in_time_wait(*options)
    with _reserved(HOST, port) as reserved:
        assert reserved == port
        with socket.socket() as ours:
            for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
                ours.setsockopt(socket.SOL_SOCKET, option, 1)
            ours.bind((HOST, port))
            ours.listen()


@pytest.mark.parametrize("options", [(), (socket.SO_REUSEPORT,)], ids=["alone", "sharing"])
def test_a_port_on_which_another_listens_is_refused(options: tuple[int, ...]) -> None:
    with _listening(*options) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"{HOST} port {port}: Address already in use"):
            _reserved(HOST, port).__enter__()


def test_nobody_else_can_listen_on_a_free_port_that_is_reserved() -> None:
    with _reserved(HOST, 0) as port, socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            other.bind((HOST, port))
