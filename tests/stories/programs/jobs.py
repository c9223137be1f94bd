from toolips_udp import (
    UDP,
    assign,
    assign_open,
    distribute,
    handler,
    new_job,
    processes,
    request,
    serve,
    waitfor,
)


def add(n, by=5):
    return n + by


@handler
async def main(c):
    [answer] = assign_open(c, new_job(add, int(c.text)))
    c.respond(str(await answer))


if __name__ == "__main__":
    for kind in ("thread", "process"):
        with processes(2, kind) as manager:
            assign(manager, 1, new_job(add, 2000))
            assert waitfor(manager, 1, timeout=30) == [2005]
            futures = distribute(manager, *[new_job(add, n) for n in range(50)])
            assert [f.result(timeout=30) for f in futures] == list(range(5, 55))

    with serve(UDP, __name__, "127.0.0.1:0", threads=8, router_threads=(1, 1)) as server:
        [done] = assign(server, 2, new_job(add, 1, by=2))
        assert done.result(timeout=30) == 3
        assert request("2000", server.address) == b"2005"
