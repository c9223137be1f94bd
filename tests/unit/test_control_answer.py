"""Asking a server over its control socket: what is said when no answer comes."""

import socket
import threading

import pytest

from toolips_udp import StartError
from toolips_udp.servers.control import ask


def test_a_server_that_closes_without_an_answer_is_an_error_that_says_so(tmp_path):
    path = tmp_path / "1-1.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def close_at_once():
            client, _ = listener.accept()
            client.recv(1000)
            client.close()

        server = threading.Thread(target=close_at_once)
        server.start()
        with pytest.raises(StartError, match="without an answer to status"):
            ask(path, "status")
        server.join()
