"""OpenAI's Responses dialect, without state: every request brings its whole conversation.

How items travel in the contract, both ways (adapters that speak this dialect upstream rely on it):

- One turn of the model is one ASSISTANT message with its items as parts in order: a reasoning item is one reasoning
  part, each content part of a message item one text or refusal part, a function or custom tool call one tool call.
  Every output of a tool is a TOOL message of its own. Any other item is a native part with the item's whole JSON.
- `extra_json` of a text or refusal part of the model holds the content part's other fields (`annotations`, `logprobs`),
  and beside them its message item's `id`, `status` and `phase`, other fields of it as `item`; that of a tool call or
  tool result the item's.
- The state of a reasoning item that OpenAI made is the whole item.
- `instructions` is a first SYSTEM message whose content shape is not set; messages of the input have theirs set.
- In an answer of this dialect, `extra_json` wins over what would be made here. In a stream, provider events that come
  as native events, from `response.created` on, are shown as they are, in place of those made from the other events.
- Ids and marks that this module made itself never reach a provider: see `state`.
"""
