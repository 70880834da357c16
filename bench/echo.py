"""One byte there, one byte back, over TCP. A program of its own: `serve PORT`, or `ask ADDRESS PORT COUNT`."""

import socket
import sys
import threading
import time


def _answer(stream: socket.socket) -> None:
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with stream:
        while byte := stream.recv(1):
            stream.send(byte)


def _serve(port: int) -> None:
    with socket.create_server(("", port)) as listener:
        while True:
            threading.Thread(target=_answer, args=(listener.accept()[0],), daemon=True).start()


def _ask(address: str, port: int, count: int) -> None:
    with socket.create_connection((address, port)) as stream:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number in range(count + count // 10):
            before = time.perf_counter_ns()
            stream.send(b"x")
            stream.recv(1)
            after = time.perf_counter_ns()
            if number >= count // 10:
                print((after - before) / 1000)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        _serve(int(sys.argv[2]))
    else:
        _ask(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
