"""Task data: a file or hub dataset as rows, rows as examples, examples as token ids."""

# The modules that other rooms may import.
__all__ = [
    "chat_template",
    "compression",
    "encode",
    "examples",
    "fields",
    "formats",
    "held_out",
    "messages",
    "rows",
    "samples",
    "schemas",
    "shared_prompts",
    "training_rows",
    "usable_rows",
]
