"""Commands that ask a server: ``jobs``, ``encoders``, ``datasets``; ``embed``, ``sample``, ``score`` with --server."""
