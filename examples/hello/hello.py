"""The shortest use of Flame: a function, a session, three tasks."""

import flame


def greet(name: bytes) -> bytes:
    return b"hello, " + name


if __name__ == "__main__":
    with flame.connect() as client, client.create_session(greet) as session:
        for line in session.map([b"ada", b"grace", b"edsger"]):
            print(line.decode())
