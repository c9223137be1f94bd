import asyncio
import secrets

from toolips_udp import messages


async def login(server: messages.Server, sent_token: str) -> bool:
    return secrets.compare_digest(sent_token.encode(), server.token.encode())


@messages.main
async def main():
    with messages.serve("test", ip="127.0.0.1:0", login_func=login) as server:

        @server.operation("echo")
        async def echo(text: str) -> str:
            return text

        @server.receive("hello")
        async def hello(message):
            await message.reply("hi", {"heard": message.content})

        async with messages.connect("test", server.address) as client:
            assert await client.operation("echo", text="abc") == "abc"

            replies = []
            async with client.message_later("hello") as pending:

                @pending.receive()
                async def answered(message, data):
                    replies.append((message.content, data, message.replying.content))

            assert replies == [("hi", {"heard": "hello"}, "hello")]

            news = asyncio.Queue()

            @client.receive("news")
            async def arrived(message, data):
                await news.put(data)

            await server.broadcast("news", {"edition": 1})
            assert await asyncio.wait_for(news.get(), 2) == {"edition": 1}

        try:
            async with messages.connect("wrong", server.address):
                raise SystemExit("a wrong token was let in")
        except messages.LoginError:
            pass
