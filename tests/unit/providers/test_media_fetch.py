"""Media by web address: what is fetched, what is refused, and that nothing inside the network is reached."""

from __future__ import annotations

import asyncio
import socket
from base64 import b64encode
from dataclasses import replace
from typing import Any

import pytest
from aigateway.v1 import chat_pb2, message_pb2
from aigateway_common.errors import GatewayError
from aigateway_providers import media_types
from aigateway_providers.adapter import CallContext
from aigateway_providers.media_fetch import MAX_FETCHES, MediaFetcher
from aigateway_providers.media_urls import MAX_ADDRESSES, Takes
from aigateway_providers.registry import create_adapter
from aigateway_providers.settings import ProviderSettings
from aiohttp.abc import AbstractResolver
from support.names import Names
from support.replay import Answer, Sent, Upstream

PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)
PDF = b"%PDF-1.7\n" + bytes(40)
WAV = b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(20)
IMAGES = frozenset({media_types.PNG, media_types.JPEG})
TAKES = Takes(
    types={"image": IMAGES, "audio": media_types.AUDIO, "file": frozenset({media_types.PDF, "text/plain"})},
    fetch=lambda url: not url.startswith("https://own.example/"),
)
SETTINGS = ProviderSettings(name="p", kind="ollama", base_url="", media_allow_private=True, media_timeout=5)
PUBLIC = replace(SETTINGS, media_allow_private=False)
PARAM = "messages[0].content[1].image_url.url"


def image(url: str) -> message_pb2.Part:
    return message_pb2.Part(image=message_pb2.ImagePart(media=message_pb2.Media(url=url)))


def call(*parts: message_pb2.Part) -> chat_pb2.ChatCall:
    text = message_pb2.Part(text=message_pb2.TextPart(text="What is this?"))
    user = message_pb2.Message(role=message_pb2.ROLE_USER, parts=[text, *parts])
    return chat_pb2.ChatCall(model="m", messages=[user])


def answer(body: bytes, content_type: str = "image/png", **more: Any) -> Answer:
    headers = {"content-type": content_type} if content_type else {}
    return Answer(headers=headers | more.pop("headers", {}), pieces=(body,), **more)


async def fetch(
    asked: chat_pb2.ChatCall, settings: ProviderSettings = SETTINGS, resolver: AbstractResolver | None = None
) -> chat_pb2.ChatCall:
    fetcher = MediaFetcher(settings, TAKES, resolver)
    try:
        return await fetcher.inline(asked, CallContext())
    finally:
        await fetcher.aclose()


async def refused(url: str, settings: ProviderSettings = SETTINGS, resolver: AbstractResolver | None = None) -> str:
    """What is said of a URL, which must be an error of the caller's request at that field."""
    with pytest.raises(GatewayError) as caught:
        await fetch(call(image(url)), settings, resolver)
    assert (caught.value.reason.name, caught.value.details["param"]) == ("INVALID_REQUEST", PARAM)
    return caught.value.message.removeprefix(f"`{PARAM}` ")


async def test_an_address_becomes_the_bytes_it_leads_to_and_the_callers_message_stays_as_it_was() -> None:
    with Upstream(answer(PNG)) as server:
        asked = call(image(f"{server.url}/cat.png?signature=a%2Fb%20c"))
        before = asked.SerializeToString()
        context = CallContext()
        fetcher = MediaFetcher(SETTINGS, TAKES)
        found = await fetcher.inline(asked, context)
        await fetcher.aclose()
    media = message_pb2.Media(data=PNG, media_type="image/png")
    assert found == call(message_pb2.Part(image=message_pb2.ImagePart(media=media)))
    assert asked.SerializeToString() == before
    assert context.upstream_ns > 0
    (sent,) = server.requests
    assert (sent.path, sent.query) == ("/cat.png", {"signature": ["a/b c"]})
    assert (sent.headers["accept-encoding"], sent.headers["user-agent"]) == ("identity", "aigateway")
    assert not {"cookie", "authorization", "referer"} & set(sent.headers)


async def test_pictures_sound_and_documents_are_fetched_wherever_they_stand_and_each_address_once() -> None:
    bodies = {"/a.png": answer(PNG), "/b.wav": answer(WAV, ""), "/c.pdf": answer(PDF, "application/octet-stream")}
    with Upstream(script=lambda sent: bodies[sent.path]) as server:
        parts = [
            image(f"{server.url}/a.png"),
            message_pb2.Part(audio=message_pb2.AudioPart(media=message_pb2.Media(url=f"{server.url}/b.wav"))),
            message_pb2.Part(file=message_pb2.FilePart(media=message_pb2.Media(url=f"{server.url}/c.pdf"))),
        ]
        result = message_pb2.Part(tool_result=message_pb2.ToolResult(call_id="1", content=[parts[0]]))
        found = await fetch(call(*parts, result))
    _, picture, sound, document, inside = found.messages[0].parts
    assert picture.image.media == message_pb2.Media(data=PNG, media_type="image/png")
    assert sound.audio.media == message_pb2.Media(data=WAV, media_type="audio/wav")
    assert document.file.media == message_pb2.Media(data=PDF, media_type="application/pdf")
    assert inside.tool_result.content[0] == picture
    assert sorted(sent.path for sent in server.requests) == ["/a.png", "/b.wav", "/c.pdf"]


async def test_a_call_without_addresses_to_fetch_is_the_very_same_message() -> None:
    data = message_pb2.Media(data=PNG, media_type="image/png")
    asked = call(message_pb2.Part(image=message_pb2.ImagePart(media=data)), image("https://own.example/x.png"))
    assert await fetch(asked) is asked


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "017700000001",
        "0177.0.0.1",
        "0x7f.0.0.1",
        "0x7f000001",
        "127.0.0.1.",
        "0",
        "0.0.0.0",
        "localhost",
        "LOCALHOST",
        "①②⑦.⓪.⓪.①",
        "10.0.0.1",
        "100.64.0.1",
        "100.100.100.200",
        "168.63.129.16",
        "169.254.169.254",
        "172.16.0.1",
        "192.168.1.1",
        "198.18.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "[::]",
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b::10.0.0.1]",
        "[64:ff9b:1::1]",
        "[2002:7f00:1::]",
        "[2002:a9fe:a9fe::1]",
        "[2001:0:7f00:1::]",
        "[fe80::1]",
        "[fe80::1%25lo]",
        "[::1%25lo]",
        "[fc00::1]",
        "[fd00:ec2::254]",
        "[ff02::1]",
        "[2001:db8::1]",
    ],
)
async def test_no_spelling_of_an_address_inside_is_reached(host: str) -> None:
    port = 9  # nothing listens; a connection that is tried would say `cannot be reached`
    said = await refused(f"http://{host}:{port}/", PUBLIC)
    assert said in {"leads to an address that is not public", "is not a valid address"}


@pytest.mark.parametrize(
    "url",
    [
        "http://user:secret@example.com/a.png",
        "http://user@example.com/a.png",
        "ftp://example.com/a.png",
        "file:///etc/passwd",
        "gopher://example.com/",
        "http://",
        "http:///a.png",
        "http://example.com:99999/",
        "http://[::1/",
        "//example.com/a.png",
    ],
)
async def test_what_is_no_plain_web_address_is_refused_and_never_quoted(url: str) -> None:
    said = await refused(url, PUBLIC, Names(["127.0.0.1"]))
    assert "secret" not in said
    assert said.startswith(("leads to something that is not", "has a user or password", "is not a valid"))


@pytest.mark.parametrize("found", [["127.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["::ffff:10.0.0.1"], ["fe80::1%2"]])
async def test_a_name_is_refused_when_any_of_its_addresses_is_inside(found: list[str]) -> None:
    names = Names(found)
    assert await refused("http://pictures.example/a.png", PUBLIC, names) == "leads to an address that is not public"
    assert names.asked == ["pictures.example"]


async def test_a_name_with_a_dot_at_its_end_is_resolved_and_checked_like_any_other() -> None:
    assert await refused("http://localhost.:9/", PUBLIC, Names(["127.0.0.1"])) == (
        "leads to an address that is not public"
    )


async def test_a_name_that_changes_its_mind_is_connected_to_only_where_it_was_checked() -> None:
    with Upstream(answer(PNG)) as server:
        port = server.url.rpartition(":")[2]
        names = Names(["127.0.0.1"], ["169.254.169.254"])
        await fetch(call(image(f"http://pictures.example:{port}/a.png")), SETTINGS, names)
    assert names.asked == ["pictures.example"]
    assert [sent.headers["host"] for sent in server.requests] == [f"pictures.example:{port}"]


async def test_every_redirect_is_checked_again() -> None:
    def script(sent: Sent) -> Answer:
        return Answer(302, {"location": "http://169.254.169.254/latest/meta-data/"})

    with Upstream(script=script) as server:
        assert await refused(f"{server.url}/a.png") == "leads to an address that is not public"
    assert len(server.requests) == 1


@pytest.mark.parametrize("location", ["file:///etc/passwd", "http://u:p@example.com/", "http://[::1/"])
async def test_a_redirect_may_not_leave_the_web(location: str) -> None:
    with Upstream(Answer(302, {"location": location})) as server:
        said = await refused(f"{server.url}/a.png")
    assert said.startswith(("leads to something that is not", "has a user or password", "is not a valid"))


async def test_three_redirects_are_followed_and_a_fourth_is_not() -> None:
    hops = {"/4": "/3", "/3": "/2", "/2": "/1", "/1": "/0"}

    def script(sent: Sent) -> Answer:
        return Answer(307, {"location": hops[sent.path]}) if sent.path in hops else answer(PNG)

    with Upstream(script=script) as server:
        found = await fetch(call(image(f"{server.url}/3")))
        assert found.messages[0].parts[1].image.media.data == PNG
        assert await refused(f"{server.url}/4") == "redirects more than 3 times"


async def test_what_is_too_large_ends_at_the_limit() -> None:
    large = Answer(headers={"content-type": "image/png"}, pieces=(PNG, bytes(2000)), hold=True)
    with Upstream(large) as server:
        said = await refused(f"{server.url}/a.png", replace(SETTINGS, media_max_bytes=1000))
        await server.wait_hung_up()
    assert said == "goes beyond the 1000 bytes that may be fetched for one call"


async def test_what_says_that_it_is_too_large_is_not_read() -> None:
    closed = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1001\r\n\r\n")
        assert await reader.read() == b""  # hung up, without a byte of the body
        writer.close()
        await writer.wait_closed()
        closed.set()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        said = await refused(f"http://127.0.0.1:{port}/a.png", replace(SETTINGS, media_max_bytes=1000))
        await closed.wait()
    assert said == "goes beyond the 1000 bytes that may be fetched for one call"


async def test_the_limit_is_that_of_the_whole_call() -> None:
    settings = replace(SETTINGS, media_max_bytes=len(PNG) + 10)
    with Upstream(answer(PNG)) as server:
        await fetch(call(image(f"{server.url}/1")), settings)
        with pytest.raises(GatewayError, match="may be fetched for one call"):
            await fetch(call(image(f"{server.url}/1"), image(f"{server.url}/2")), settings)


@pytest.mark.parametrize(
    "slow",
    [
        Answer(hold_before_headers=True),
        Answer(headers={"content-type": "image/png"}, pieces=(PNG,), hold=True),
    ],
)
async def test_what_is_too_slow_is_given_up(slow: Answer) -> None:
    with Upstream(slow) as server:
        said = await refused(f"{server.url}/a.png", replace(SETTINGS, media_timeout=0.1))
        await server.wait_hung_up()
    assert said == "did not arrive within 0.1 seconds"


async def test_cancelling_the_call_closes_the_fetch() -> None:
    with Upstream(Answer(headers={"content-type": "image/png"}, pieces=(PNG,), hold=True)) as server:
        fetcher = MediaFetcher(SETTINGS, TAKES)
        task = asyncio.create_task(fetcher.inline(call(image(f"{server.url}/a.png")), CallContext()))
        await server.wait_arrived()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.wait_hung_up()
        await fetcher.aclose()


async def test_one_failure_ends_the_other_fetches_of_the_call() -> None:
    def script(sent: Sent) -> Answer:
        return Answer(404) if sent.path == "/gone" else Answer(hold_before_headers=True)

    with Upstream(script=script) as server:
        with pytest.raises(GatewayError, match="was answered with status 404"):
            await fetch(call(image(f"{server.url}/held"), image(f"{server.url}/gone")))
        await server.wait_hung_up()


@pytest.mark.parametrize(
    ("body", "declared", "said"),
    [
        (b"<html>sign in</html>", "image/png", "is of no type that is known; taken are image/jpeg, image/png"),
        (b"<svg/>", "image/svg+xml", "is of no type that is known; taken are image/jpeg, image/png"),
        (b"GIF89a" + bytes(9), "image/png", "is image/gif; taken are image/jpeg, image/png"),
        (b"hello", "text/plain; charset=utf-8", "is text/plain; taken are image/jpeg, image/png"),
        (b"", "image/png", "is of no type that is known; taken are image/jpeg, image/png"),
    ],
)
async def test_what_the_provider_does_not_take_is_refused_by_its_bytes(body: bytes, declared: str, said: str) -> None:
    with Upstream(answer(body, declared)) as server:
        assert await refused(f"{server.url}/a.png") == said


async def test_a_compressed_answer_is_refused_unread() -> None:
    with Upstream(answer(b"\x1f\x8b", headers={"content-encoding": "gzip"})) as server:
        assert await refused(f"{server.url}/a.png") == "came compressed, though that was not asked for"


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (Answer(404), "was answered with status 404"),
        (Answer(302), "redirects more than 3 times"),
        (Answer(headers={"content-type": "image/png"}, pieces=(PNG,), cut=True), "could not be fetched"),
    ],
)
async def test_a_server_that_fails_is_named_as_the_reason(what: Answer, said: str) -> None:
    with Upstream(what) as server:
        assert await refused(f"{server.url}/a.png") == said


async def test_nobody_there_is_said_without_the_address() -> None:
    with socket.socket() as silent:  # has the port and does not listen: nobody else does either
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        assert await refused(f"http://127.0.0.1:{port}/a.png?token=secret") == "cannot be reached"


async def test_only_so_many_are_fetched_at_once() -> None:
    active: list[int] = []
    now = 0
    full = asyncio.Event()
    served: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal now
        task = asyncio.current_task()
        assert task is not None
        served.append(task)
        await reader.readuntil(b"\r\n\r\n")
        now += 1
        active.append(now)
        if now == MAX_FETCHES:
            full.set()
        await full.wait()
        now -= 1
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(PNG), PNG))
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        found = await fetch(call(*(image(f"http://127.0.0.1:{port}/{n}") for n in range(MAX_FETCHES + 5))))
        await asyncio.gather(*served)
    assert len(active) == MAX_FETCHES + 5
    assert max(active) == MAX_FETCHES
    assert {part.image.media.data for part in found.messages[0].parts[1:]} == {PNG}


OLLAMA_ANSWER = {"model": "m", "message": {"role": "assistant", "content": "A cat."}, "done": True}
GEMINI_ANSWER = {"candidates": [{"content": {"parts": [{"text": "A cat."}]}, "finishReason": "STOP"}]}


@pytest.mark.parametrize(("kind", "said"), [("ollama", OLLAMA_ANSWER), ("gemini", GEMINI_ANSWER)])
@pytest.mark.parametrize("streamed", [False, True])
async def test_providers_that_take_bytes_get_them(kind: str, said: dict[str, Any], streamed: bool) -> None:
    record = said if kind == "ollama" else [said]
    with Upstream(answer(PNG)) as web, Upstream(Answer.of(record if streamed else said)) as provider:
        adapter = create_adapter(replace(SETTINGS, kind=kind, name=kind, base_url=provider.url))
        asked = call(image(f"{web.url}/cat.png"))
        if streamed:
            events = [event async for batch in adapter.stream_chat(asked, CallContext()) for event in batch]
            text = "".join(event.text for event in events)
        else:
            text = (await adapter.chat(asked, CallContext())).choices[0].message.parts[0].text.text
        await adapter.aclose()
    assert text == "A cat."
    data = b64encode(PNG).decode()
    (sent,) = provider.requests
    if kind == "ollama":
        assert sent.json()["messages"] == [{"role": "user", "content": "What is this?", "images": [data]}]
    else:
        parts = [{"text": "What is this?"}, {"inlineData": {"mimeType": "image/png", "data": data}}]
        assert sent.json()["contents"] == [{"role": "user", "parts": parts}]


async def test_addresses_that_gemini_reads_by_itself_are_not_fetched() -> None:
    own = "https://generativelanguage.googleapis.com/v1beta/files/abc"
    with Upstream(Answer.of(GEMINI_ANSWER)) as provider:
        adapter = create_adapter(replace(PUBLIC, kind="gemini", name="gemini", base_url=provider.url))
        await adapter.chat(call(image(own)), CallContext())
        await adapter.aclose()
    (sent,) = provider.requests
    assert sent.json()["contents"][0]["parts"][1] == {"fileData": {"fileUri": own}}


async def test_a_call_names_a_limited_number_of_addresses() -> None:
    with pytest.raises(GatewayError, match="one address too many") as caught:
        await fetch(call(*(image(f"http://127.0.0.1:9/{number}") for number in range(MAX_ADDRESSES + 1))))
    assert caught.value.details["param"] == f"messages[0].content[{MAX_ADDRESSES + 1}].image_url.url"


@pytest.mark.parametrize(
    ("beginning", "found"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
        (b"\0\0\0\x18ftypheic", "image/heic"),
        (b"\0\0\0\x18ftypmif1", "image/heif"),
        (PDF, "application/pdf"),
        (WAV, "audio/wav"),
        (b"ID3\x04", "audio/mpeg"),
        (b"\xff\xfb\x90", "audio/mpeg"),
        (b"\xff\xf1\x50", "audio/aac"),
        (b"OggS\0", "audio/ogg"),
        (b"fLaC\0", "audio/flac"),
        (b"FORM\0\0\0\0AIFF", "audio/aiff"),
        (b"\0\0\0\x18ftypM4A ", "audio/mp4"),
        (b"\0\0\0\x18ftypisom", ""),
        (b"RIFF\0\0\0\0AVI ", ""),
        (b"\0binary", ""),
    ],
)
def test_a_type_is_told_by_the_first_bytes(beginning: bytes, found: str) -> None:
    assert media_types.media_type(beginning, "text/plain" if beginning == b"\0binary" else "image/gif") == found
