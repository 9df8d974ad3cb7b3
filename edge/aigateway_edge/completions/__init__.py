"""OpenAI's legacy Completions: a prompt is asked as one user message, and its answer told as text."""
