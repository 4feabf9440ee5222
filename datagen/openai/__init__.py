"""Talk to OpenAI-compatible servers: options, one address, the wire, batches."""
