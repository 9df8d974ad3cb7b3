"""What lets a router pass an adapter's message on as the bytes that it is: both messages say the same by them."""

from __future__ import annotations

from aigateway.v1 import gateway_service_pb2, provider_service_pb2

FROM_ADAPTERS = provider_service_pb2.ProviderServiceStreamChatResponse.DESCRIPTOR
TO_CALLERS = gateway_service_pb2.StreamChatResponse.DESCRIPTOR


def test_but_for_the_timing_every_field_of_an_adapters_message_is_the_callers_field_of_that_number() -> None:
    passed = [field for field in FROM_ADAPTERS.fields if field.name != "timing"]
    assert [field.name for field in passed] == ["events"]
    for field in passed:
        other = TO_CALLERS.fields_by_number[field.number]
        assert (other.name, other.message_type) == (field.name, field.message_type)
        assert other.is_repeated == field.is_repeated
