"""Cases about answers: what a provider says arrives whole, in order, and with its tokens."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import grpc
from aigateway.v1 import chat_pb2, embedding_pb2, message_pb2, provider_service_pb2
from grpc import aio

from aigateway_providers.conformance import asks
from aigateway_providers.conformance.events import check_calls, check_object
from aigateway_providers.conformance.target import read_refusal
from aigateway_providers.conformance.verdict import Failed, Skipped, require

if TYPE_CHECKING:
    from aigateway.v1 import tokens_pb2

    from aigateway_providers.conformance.target import Target

_TOOLS = frozenset({"get_weather", "get_time"})


async def capabilities(target: Target) -> str:
    """`GetCapabilities` says who the provider is, which dialect it speaks, and what it does."""
    able = target.capabilities
    require(able.provider, "`provider` is empty")
    require(able.dialect != message_pb2.DIALECT_UNSPECIFIED, "`dialect` is not set")
    require(able.chat or able.embed, "neither `chat` nor `embed` is claimed")
    claims = [field.name for field, value in able.ListFields() if value is True]
    return f"{able.provider}: {', '.join(claims)}"


async def basic(target: Target) -> str:
    """A question is answered with text, an id, a model and a reason for stopping."""
    target.play("text")
    completion = await target.chat(asks.chat(target.model()))
    words = _text(completion)
    require(words, "the answer is empty")
    require(completion.id, "`id` is empty")
    require(completion.model, "`model` is empty")
    require(completion.created > 0, "`created` is not set")
    require(completion.dialect == target.capabilities.dialect, "`dialect` is not the one that was claimed")
    require(completion.choices[0].message.role == message_pb2.ROLE_ASSISTANT, "the role is not ASSISTANT")
    reason = completion.choices[0].finish_reason
    require(reason == chat_pb2.FINISH_REASON_STOP, f"the finish reason is {chat_pb2.FinishReason.Name(reason)}")
    return _short(words)


async def streaming(target: Target) -> str:
    """A stream begins with `start`, ends each choice with one `finish`, has `usage` last, and adds up to an answer."""
    target.play("text")
    streamed = await target.stream(asks.chat(target.model()))
    require(streamed.text, "the text deltas join to nothing")
    require(streamed.start.id, "`start.id` is empty")
    require(streamed.start.model, "`start.model` is empty")
    require(streamed.start.dialect == target.capabilities.dialect, "`start.dialect` is not the one that was claimed")
    require(streamed.finish == chat_pb2.FINISH_REASON_STOP, "the finish reason is not STOP")
    return _short(streamed.text)


async def whole_and_streamed(target: Target) -> str:
    """The same answer says the same, whole and streamed."""
    target.play("text")
    whole = await target.chat(asks.chat(target.model()))
    streamed = await target.stream(asks.chat(target.model()))
    require(streamed.text == _text(whole), f"whole {_text(whole)!r}, streamed {streamed.text!r}")
    require(streamed.finish == whole.choices[0].finish_reason, "the finish reasons differ")
    if streamed.usage is None or not whole.HasField("usage"):
        raise Failed("`usage` is absent though the provider reported it")
    differing = [name for name in _COUNTS if getattr(streamed.usage, name) != getattr(whole.usage, name)]
    require(not differing, f"token counts differ: {', '.join(differing)}")
    return ""


async def tools(target: Target) -> str:
    """A tool call has an id, a name that was offered and a JSON object; its result can be sent back."""
    call = asks.with_tools(target.model("tools"))
    target.play("tools")
    completion = await target.chat(call)
    message = completion.choices[0].message
    found = check_calls((part.tool_call for part in message.parts if part.HasField("tool_call")), _TOOLS)
    require(found, "no tool was called though one had to be")
    reason = completion.choices[0].finish_reason
    require(reason == chat_pb2.FINISH_REASON_TOOL_CALLS, f"the finish reason is {chat_pb2.FinishReason.Name(reason)}")
    target.play("text")
    answer = await target.chat(asks.with_results(call, message))
    require(answer.choices[0].message.parts, "the answer to the tool's result is empty")
    return ", ".join(f"{call.name} {call.arguments.decode()}" for call in found)


async def streamed_tools(target: Target) -> str:
    """A streamed tool call is told of before its arguments, which join to a JSON object."""
    call = asks.with_tools(target.model("tools"))
    target.play("tools")
    streamed = await target.stream(call)
    found = check_calls(streamed.calls, _TOOLS)
    require(found, "no tool was called though one had to be")
    require(streamed.finish == chat_pb2.FINISH_REASON_TOOL_CALLS, "the finish reason is not TOOL_CALLS")
    target.play("text")
    answer = await target.stream(asks.with_results(call, streamed.message))
    require(answer.text or answer.calls, "the answer to the tool's result is empty")
    return ""


async def parallel_tools(target: Target) -> str:
    """Two calls of one answer keep apart: ids, places and arguments, whole and streamed."""
    call = asks.with_tools(target.model("tools"), parallel=True)
    target.play("parallel_tools")
    completion = await target.chat(call)
    parts = completion.choices[0].message.parts
    whole = check_calls((part.tool_call for part in parts if part.HasField("tool_call")), _TOOLS)
    streamed = check_calls((await target.stream(call)).calls, _TOOLS)
    if target.live and min(len(whole), len(streamed)) < 2:
        raise Skipped("the model called one tool only")
    for calls in (whole, streamed):
        require(len(calls) >= 2, f"{len(calls)} call(s) instead of two")
    return ""


async def structured(target: Target) -> str:
    """An answer that must follow a schema is JSON that does, whole and streamed."""
    call = asks.structured(target.model("structured_output"))
    target.play("structured")
    completion = await target.chat(call)
    for words in (_text(completion), (await target.stream(call)).text):
        value = check_object(words.encode(), "the answer")
        require(set(value) == {"city"} and isinstance(value["city"], str), f"{words[:80]!r} does not follow the schema")
    return ""


async def reasoning(target: Target) -> str:
    """Reasoning comes as parts of its own, apart from the answer, and goes back as it came."""
    call = asks.reasoning(target.model("reasoning"))
    target.play("reasoning")
    completion = await target.chat(call)
    streamed = await target.stream(call)
    require(_text(completion), "the answer beside the reasoning is empty")
    require(streamed.text, "the streamed answer beside the reasoning is empty")
    thought = [part for part in completion.choices[0].message.parts if part.HasField("reasoning")]
    if target.live and not (thought and any(part.HasField("reasoning") for part in streamed.parts)):
        raise Skipped("the model showed no reasoning")
    require(thought, "no part is reasoning")
    require(any(part.HasField("reasoning") for part in streamed.parts), "no part of the stream is reasoning")
    target.play("text")
    following = asks.chat(call.model, *call.messages, completion.choices[0].message, asks.user(asks.text("Sure?")))
    require(_text(await target.chat(following)), "the answer to the next turn is empty")
    return ""


async def image(target: Target) -> str:
    """A picture in the prompt is taken."""
    target.play("text")
    completion = await target.chat(asks.picture(target.model(), asks.png()))
    require(_text(completion), "the answer is empty")
    return _short(_text(completion))


async def large_image(target: Target) -> str:
    """A message with a picture of 5 MiB arrives; a provider that takes none so large refuses it in its own words."""
    target.play("text")
    call = asks.picture(target.model(), asks.png(asks.LARGE))
    try:
        await target.chat(call)
    except aio.AioRpcError as error:
        if not target.live:
            raise
        refusal = read_refusal(error)
        require(refusal.reason in {"INVALID_REQUEST", "REQUEST_TOO_LARGE"}, f"{refusal.reason}: {refusal.message}")
        return f"the provider refused it: {_short(refusal.message)}"
    return ""


async def large_message(target: Target) -> str:
    """A message of over 5 MiB is taken: gRPC's own limit of 4 MiB has been raised."""
    target.play("text")
    call = asks.chat(target.model())
    call.dialect = asks.foreign(target.capabilities.dialect)
    call.extra_json = b'{"conformance_unknown":"' + b"x" * asks.LARGE + b'"}'
    await target.chat(call)
    return ""


async def usage(target: Target) -> str:
    """Token classes are disjoint, not negative, and no guess; splits are no larger than what they split."""
    target.play("text")
    completion = await target.chat(asks.chat(target.model()))
    streamed = await target.stream(asks.chat(target.model()))
    if target.live and not completion.HasField("usage"):
        raise Skipped("the provider reported no tokens")
    require(completion.HasField("usage"), "`usage` is absent though the provider reported it")
    require(streamed.usage is not None, "the stream has no `usage`")
    _check_usage(completion.usage)
    if streamed.usage is not None:
        _check_usage(streamed.usage)
    return f"{_inputs(completion.usage)} in, {_outputs(completion.usage)} out"


async def extras(target: Target) -> str:
    """Fields that the adapter knows nothing of do no harm: another dialect's, and a newer contract's."""
    target.play("text")
    call = asks.with_extras(asks.chat(target.model()), asks.foreign(target.capabilities.dialect))
    completion = await target.chat(call)
    require(completion.translation, "another dialect's field was left out and the translation report does not say so")
    newer = provider_service_pb2.ProviderServiceChatRequest.FromString(
        provider_service_pb2.ProviderServiceChatRequest(call=asks.chat(target.model())).SerializeToString()
        + b"\xfa\x7f\x05newer"  # field 2047, a string
    )
    require((await target.stub.Chat(newer, timeout=target.timeout)).completion.choices, "the answer has no choices")
    return ""


async def own_extras(target: Target) -> str:
    """Fields of the adapter's own dialect that the contract has no place for are no reason to fail."""
    target.play("text")
    call = asks.with_extras(asks.chat(target.model()), target.capabilities.dialect, ("call",))
    completion = await target.chat(call)
    require(_text(completion), "the answer is empty")
    return ""


async def embeddings(target: Target) -> str:
    """Each text becomes one vector, in order, all of one length."""
    target.play("embeddings")
    texts = [embedding_pb2.EmbeddingInput(text=words) for words in ("a cat", "a dog")]
    made = await target.embed(embedding_pb2.EmbedCall(model=target.embed_model(), inputs=texts))
    places = [vector.index for vector in made.embeddings]
    require(places == [0, 1], f"two texts became vectors {places}")
    lengths = {len(vector.values) for vector in made.embeddings}
    require(len(lengths) == 1 and 0 not in lengths, f"the vectors have lengths {sorted(lengths)}")
    require(all(math.isfinite(value) for vector in made.embeddings for value in vector.values), "a value is not finite")
    return f"{lengths.pop()} dimensions"


async def models(target: Target) -> str:
    """The list of models has names, each once."""
    target.play("models")
    found = (await target.list_models()).models
    require(found, "the list is empty")
    require(all(model.id for model in found), "a model has no id")
    require(len({model.id for model in found}) == len(found), "a model is listed twice")
    return f"{len(found)} models"


async def unclaimed(target: Target) -> str:
    """An operation that is not claimed is UNIMPLEMENTED, and nothing else."""
    able = target.capabilities
    if able.chat and able.embed and able.list_models:
        raise Skipped("every operation is claimed")
    refused = [grpc.StatusCode.UNIMPLEMENTED]
    if not able.embed:
        call = embedding_pb2.EmbedCall(model="any", inputs=[embedding_pb2.EmbeddingInput(text="a cat")])
        await target.refused(target.embed(call), refused, "embeddings, not claimed")
    if not able.list_models:
        await target.refused(target.list_models(), refused, "a list of models, not claimed")
    if not able.chat:
        await target.refused(target.chat(asks.chat("any")), refused, "chat, not claimed")
    return ""


_INPUTS = ("input_uncached", "input_cache_read", "input_cache_write_5m", "input_cache_write_1h", "tool_use_prompt")
_OUTPUTS = ("output_text", "output_reasoning")
_COUNTS = (*_INPUTS, *_OUTPUTS)
_SPLITS = {
    "input_audio": _INPUTS,
    "input_image": _INPUTS,
    "output_audio": _OUTPUTS,
    "output_image": _OUTPUTS,
    "input_cache_read_audio": ("input_cache_read",),
}


def _check_usage(used: tokens_pb2.TokenUsage) -> None:
    for field, value in used.ListFields():
        require(not isinstance(value, int) or value >= 0, f"`{field.name}` is {value}")
    for split, whole in _SPLITS.items():
        total = sum(getattr(used, name) for name in whole)
        require(getattr(used, split) <= total, f"`{split}` is {getattr(used, split)} of {total} tokens")
    require(_inputs(used) > 0, "no prompt token is counted")
    require(_outputs(used) > 0, "no output token is counted")
    require(not used.estimated, "a complete answer has estimated tokens")
    if used.native_json:
        check_object(used.native_json, "`native_json`")


def _inputs(used: tokens_pb2.TokenUsage) -> int:
    return sum(getattr(used, name) for name in _INPUTS)


def _outputs(used: tokens_pb2.TokenUsage) -> int:
    return sum(getattr(used, name) for name in _OUTPUTS)


def _text(completion: chat_pb2.ChatCompletion) -> str:
    parts = completion.choices[0].message.parts
    return "".join(part.text.text for part in parts if part.HasField("text"))


def _short(words: str) -> str:
    return f"{words[:60]}…" if len(words) > 60 else words
